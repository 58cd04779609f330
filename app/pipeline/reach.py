"""What a refusal does to a destination; of an audience that does not exist, after a look whether it is deleted, or its
whole ad account out of the token's reach.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.domain.delivery import NO_SUCH_OBJECT, OUT_OF_REACH, GraphRefusal, Refusal, classify, reason
from app.domain.delivery_errors import Reaction
from app.errors import UnreachableError
from app.pipeline.trouble import Hold, Retry, Trouble
from app.ports import GraphApi


async def refused(
    refusal: Refusal,
    trouble: Trouble,
    graph: GraphApi,
    account: str | None,
    ready: Callable[[], Awaitable[None]],
) -> Retry | Hold:
    """`ready` returns when one more call may be made; `account` None: the ad account is not known."""
    how = trouble.refused(refusal)
    if account is not None and (refusal.code, refusal.subcode) == NO_SUCH_OBJECT:
        await ready()
        if await _is_out_of_reach(graph, account):
            return trouble.needs_person(reason(refusal, OUT_OF_REACH, account))
    return how


async def _is_out_of_reach(graph: GraphApi, account: str) -> bool:
    """One call; what else may be wrong with it says nothing."""
    try:
        async for _ in graph.list_audiences(account):
            break
    except GraphRefusal as error:
        return classify(error.refusal).reaction in (Reaction.AUDIENCE_GONE, Reaction.AUTH_OR_TERMS)
    except UnreachableError:
        pass
    return False
