"""Conditions compiled to closures over a profile's state: `holds(state, now, horizon)`.

`now` is the clock and decides everything that time alone does; `horizon` is the clock plus what events may be early,
and decides only whether an event has happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.compact import audience_id
from app.domain.comparing import bound, is_deferred
from app.domain.date_edges import trait_watches
from app.domain.event_conditions import compile_event, count_bound
from app.domain.funnels import compile_funnel
from app.domain.operators import predicate
from app.domain.values import goes_into_items
from app.errors import InvalidInputError
from schemas.audience import (
    AllOf,
    AnyOf,
    AudienceReference,
    Not,
    ParentReference,
    TraitCondition,
    UsersCondition,
    Window,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.comparing import Read, Readers
    from app.domain.date_edges import Watches
    from app.domain.event_conditions import FeedUse, Holds
    from app.domain.feeds import Since
    from app.domain.state import ProfileState
    from schemas.audience import Condition, EventCondition


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events the conditions of a definition see: received `since`, and not older than `lookback_ms`; of a funnel
    `funnel_events` on either side, None: as many as are compared quickly.
    """

    since: Since | None = None
    lookback_ms: int | None = None
    funnel_events: int | None = None


class ConditionCompiler:
    """Compiles the conditions of one definition, and collects what they use together.

    `traits` are paths as definitions write them, `audiences` are those whose membership is asked for. Raises
    InvalidInputError for a condition that cannot be computed.
    """

    def __init__(
        self,
        whose: str,
        readers: Readers,
        scope: Scope,
        of_users: Callable[[UsersCondition], Holds] | None = None,
    ) -> None:
        """`whose` the conditions are, as errors say it; `scope` is what they see of the events. `of_users` compiles what
        accounts ask of their users; None: these are not the conditions of accounts.
        """
        self._of_users = of_users
        self._whose = whose
        self._scope = scope
        self._readers = readers
        self.uses: list[FeedUse] = []
        self.traits: set[str] = set()
        self.audiences: set[str] = set()
        self.watches: Watches = {}

    def compile(self, condition: Condition) -> Holds:
        if isinstance(condition, AllOf):
            return all_of([self.compile(part) for part in condition.conditions])
        if isinstance(condition, AnyOf):
            return _any_of([self.compile(part) for part in condition.conditions])
        if isinstance(condition, Not):
            return _not(self.compile(condition.condition))
        if isinstance(condition, TraitCondition):
            return self._trait(condition)
        if isinstance(condition, AudienceReference):
            self.audiences.add(condition.audience)
            return _is_member(condition.audience)
        if isinstance(condition, UsersCondition):
            if self._of_users is None:
                raise InvalidInputError(f"{self._whose}: `users` belongs to an audience of accounts")
            return self._of_users(condition)
        if self._of_users is not None:
            raise InvalidInputError(f"{self._whose}: an account has no events of its own")
        return self._event(condition)

    def _read(self, trait: str) -> Read:
        self.traits.add(trait)
        return self._readers(trait)

    def _event(self, condition: EventCondition) -> Holds:
        if any(isinstance(item.operand, ParentReference) for item in (*condition.where, *condition.context)):
            raise InvalidInputError(f"{self._whose}: same_as belongs to what follows an event, under `then`")
        limited = within_lookback(condition, self._scope.lookback_ms)
        if limited is None:
            return _constant(count_bound(condition.count)(0) and condition.aggregate is None)
        condition = limited
        if condition.then is not None:
            compiled = compile_funnel(
                condition, condition.then, self._read, self._scope.since, self._scope.funnel_events
            )
        else:
            compiled = compile_event(condition, self._read, self._scope.since)
        self.uses += compiled.uses
        self.watches |= compiled.watches
        return compiled.holds

    def _trait(self, condition: TraitCondition) -> Holds:
        self.watches |= trait_watches(condition.comparisons, self._read)
        read = self._read(condition.trait)
        if goes_into_items(condition.trait):
            return self._items(condition, read)
        if len(condition.comparisons) == 1 and not is_deferred(condition.comparisons[0]):
            only = predicate(condition.comparisons[0].operator, condition.comparisons[0].operand)
            return lambda state, _now, _horizon: only(read(state))
        tests = [bound(item.operator, item.operand, self._read) for item in condition.comparisons]

        def holds(state: ProfileState, now: int, horizon: int) -> bool:
            del horizon
            value = read(state)
            return all(test(state, now)(value) for test in tests)

        return holds

    def _items(self, condition: TraitCondition, read: Read) -> Holds:
        """Each operator on its own: one may hold for one item and the next for another."""
        tests = [bound(item.operator, item.operand, self._read) for item in condition.comparisons]

        def holds(state: ProfileState, now: int, horizon: int) -> bool:
            del horizon
            items = read(state) or [None]
            return all(any(map(test(state, now), items)) for test in tests)

        return holds


def within_lookback(condition: EventCondition, lookback_ms: int | None) -> EventCondition | None:
    """The condition with its window cut off at the lookback; None: no event can be in what is left of it."""
    window = condition.window
    if lookback_ms is None:
        return condition
    if window is not None and window.near_ms >= lookback_ms:
        return None
    near, far = (window.near_ms, window.far_ms) if window else (0, lookback_ms)
    return condition.model_copy(update={"window": Window(near_ms=near, far_ms=min(far, lookback_ms))})


def _constant(truth: bool) -> Holds:
    return lambda _state, _now, _horizon: truth


def _is_member(audience: str) -> Holds:
    """Whoever asks is asked after that audience."""
    short = audience_id(audience)

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        del now, horizon
        known = state.memberships.get(short)
        return known is not None and known.member

    return holds


def all_of(tests: Sequence[Holds]) -> Holds:
    """Of none: true."""
    if len(tests) == 1:
        return tests[0]

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        return all(test(state, now, horizon) for test in tests)

    return holds


def _any_of(tests: Sequence[Holds]) -> Holds:
    if len(tests) == 1:
        return tests[0]

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        return any(test(state, now, horizon) for test in tests)

    return holds


def _not(test: Holds) -> Holds:
    return lambda state, now, horizon: not test(state, now, horizon)
