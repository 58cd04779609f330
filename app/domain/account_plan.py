"""Audiences of accounts compiled: one part is asked of the account, one of its users, one of who is sent.

What an account asks of its users is, in the plan of people, an audience for each such condition, which nobody is told
of: so it is folded, timed and evaluated as any other. Its key is made of its content, so that an answer outlives all
versions of the definitions that ask the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from app.domain.compact import audience_id
from app.domain.references import ranks_of
from schemas.audience import Quantifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.condition_tests import Scope
    from app.domain.event_conditions import Holds
    from app.domain.state import ProfileState
    from schemas.audience import UsersCondition

# No audience's key has a slash, nor does what stands for it in states.
ASKED: Final = "users/"
_ASKED_ID: Final = "/"
_ID_DIGITS: Final = 12


def key_asked(condition: UsersCondition, scope: Scope) -> str:
    """The key of what is asked of users."""
    since = scope.since
    content = [
        condition.condition.model_dump(mode="json"),
        scope.lookback_ms,
        None if since is None else [since.whose, since.given],
    ]
    return ASKED + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_ID_DIGITS]


def is_asked(short: str) -> bool:
    """Whether this stands, in states, for what is asked of users."""
    return short.startswith(_ASKED_ID)


def of_users(key: str, quantifier: Quantifier) -> Holds:
    """Of an account's state: whether what is asked holds of any, all or none of its users."""

    def any_holds(state: ProfileState, _now: int, _horizon: int) -> bool:
        ties = state.ties
        return ties is not None and any(stand.users and stand.holds.get(key) for stand in ties.stands)

    def all_hold(state: ProfileState, _now: int, _horizon: int) -> bool:
        ties = state.ties
        return (
            ties is not None
            and bool(ties.users)
            and all(not stand.users or bool(stand.holds.get(key)) for stand in ties.stands)
        )

    def none_holds(state: ProfileState, now: int, horizon: int) -> bool:
        return not any_holds(state, now, horizon)

    return {Quantifier.ANY: any_holds, Quantifier.ALL: all_hold, Quantifier.NONE: none_holds}[quantifier]


def of_account(audience: str) -> Holds:
    """Of a person's state: whether some account of theirs is a member."""
    short = audience_id(audience)

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        del now, horizon
        ties = state.ties
        return ties is not None and any(short in tie.audiences for tie in ties.accounts.values())

    return holds


def is_answered(state: ProfileState, asked: Iterable[str]) -> bool:
    """Whether every user of the account has said whether all this holds of them."""
    ties = state.ties
    return ties is None or all(
        not stand.users or all(key in stand.holds for key in asked) for stand in ties.stands
    )


def refuse_circles(
    of_people: Mapping[str, Iterable[str]],
    of_accounts: Mapping[str, Iterable[str]],
    asked_by: Mapping[str, Iterable[str]],
) -> None:
    """Raises InvalidInputError where membership of an audience depends on itself, by way of accounts and their users.

    All are references by key.
    """
    both = {key: list(asked) for key, asked in of_people.items()}
    for key, asked in of_accounts.items():
        both[key] = [*both.get(key, ()), *asked, *asked_by[key]]
    ranks_of(both)
