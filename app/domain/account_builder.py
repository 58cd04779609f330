"""Audiences of accounts become three parts each (see app.domain.account_plan), in the plan of people and in one
of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from app.domain.account_plan import key_asked, of_account, of_users, refuse_circles
from app.domain.condition_tests import all_of
from app.domain.plan import AccountPlan, Plan
from app.domain.plan_builder import PlanBuilder
from app.domain.trait_sources import TraitSources

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.event_conditions import Holds
    from schemas.audience import AudienceDefinition, UsersCondition

# What is no audience of people that anybody is told of.
_OF_NOBODY: Final[Mapping[str, object]] = MappingProxyType({"destinations": [], "include_anonymous": True})


class AccountsBuilder:
    """Audiences of accounts, beside those of `people`."""

    def __init__(self, people: PlanBuilder) -> None:
        self._people = people
        self._own = PlanBuilder(TraitSources(()), people.room)
        self._asked: dict[str, None] = {}
        self._asked_by: dict[str, tuple[str, ...]] = {}

    def add(self, definition: AudienceDefinition, applied: int | None, generation: int | None) -> None:
        """As for an audience of people."""
        people, key = self._people, definition.key
        created = people.created(definition, applied)
        scope = people.scope(definition, generation, created)
        asked: dict[str, None] = {}

        def of_users_of(condition: UsersCondition) -> Holds:
            name = key_asked(condition, scope)
            asked[name] = None
            if name not in people.parts:
                compiler = people.compiler(key, scope)
                part = definition.model_copy(update={"key": name, "enabled": True, **_OF_NOBODY})
                people.keep(part, compiler, compiler.compile(condition.condition), None, None)
            return of_users(name, condition.quantifier)

        compiler = self._own.compiler(key, scope, of_users_of)
        conditions = [] if definition.when is None else [compiler.compile(definition.when)]
        own = definition.model_copy(update=_OF_NOBODY)
        self._own.keep(own, compiler, all_of(conditions), created, generation)
        compiler = people.compiler(key, scope)
        required = [] if definition.require is None else [compiler.compile(definition.require)]
        people.keep(definition, compiler, all_of([of_account(key), *required]), None, generation)
        self._asked |= asked
        self._asked_by[key] = tuple(asked)

    def plan(self, digest: str, apply: Callable[[Mapping[str, int]], Plan]) -> Plan:
        """Of the people, with that of the accounts."""
        if not self._asked_by:
            return self._people.plan(digest, apply)
        refuse_circles(
            {key: part.audiences for key, part in self._people.parts.items()},
            {key: part.audiences for key, part in self._own.parts.items()},
            self._asked_by,
        )
        accounts = AccountPlan(self._own.plan(digest, apply), tuple(self._asked), self._asked_by)
        return replace(self._people.plan(digest, apply), accounts=accounts)
