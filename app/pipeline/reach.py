"""Whether an audience that does not exist is deleted, or its whole ad account out of the token's reach."""

from __future__ import annotations

from app.domain.delivery import GraphRefusal, classify
from app.domain.delivery_errors import Reaction
from app.errors import UnreachableError
from app.ports import GraphApi


async def is_out_of_reach(graph: GraphApi, account: str) -> bool:
    """One call; what else may be wrong with it says nothing."""
    try:
        async for _ in graph.list_audiences(account):
            break
    except GraphRefusal as error:
        return classify(error.refusal).reaction in (Reaction.AUDIENCE_GONE, Reaction.AUTH_OR_TERMS)
    except UnreachableError:
        pass
    return False
