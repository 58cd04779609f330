"""Why a condition holds of a profile, or does not: its verdict as a tree, in plain words.

The leaves are asked by the closures that decide memberships (see app.domain.condition_tests), so a verdict is never
another than theirs. Values of traits are shown as far as they are in the clear on purpose, those that tell who
someone is are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from app.domain.account_plan import key_asked, of_account, of_users
from app.domain.compact import audience_id
from app.domain.condition_tests import ConditionCompiler, Scope, within_lookback
from app.domain.condition_words import describe_condition
from app.domain.definitions_warnings import identifies_people
from app.domain.explanation_events import observer
from app.domain.feeds import NO_GENERATIONS
from app.domain.instants import format_instant
from app.domain.plan_builder import since_of
from app.domain.profile_ids import ACCOUNT
from app.domain.trait_sources import TraitSources
from app.domain.values import text_of
from schemas.audience import (
    AllOf,
    AnyOf,
    AudienceReference,
    AudienceSource,
    Entity,
    EventCondition,
    Not,
    TraitCondition,
    TraitReference,
    UsersCondition,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from app.domain.comparing import Readers
    from app.domain.event_conditions import Holds
    from app.domain.explanation_events import Observe
    from app.domain.state import ProfileState
    from schemas.audience import AudienceDefinition, ComputedTraitDefinition, Condition

    See = Callable[[ProfileState, int, int], tuple["Seen", ...]]

MAX_SHOWN_CHARACTERS: Final = 200
HIDDEN: Final = "(not shown: it identifies people)"

# Who says who is in an audience that is not computed here.
TELLS: Final = {
    AudienceSource.ENGAGE: "Segment Engage",
    AudienceSource.REVERSE_ETL: "the warehouse",
}
_PLAIN: Final = frozenset({str, int, float, bool})


@dataclass(frozen=True, slots=True)
class Seen:
    """One value that a condition looks at; None: there is none. `or_more`: there may be more than are kept."""

    name: str
    value: str | int | float | bool | None
    or_more: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """`kind` is the condition's key in the language, or `created` or `account`. `deciding`: the verdict at the top
    rests on it.

    `changes_at` is the next instant at which it is known to change by time alone, if nothing more is heard.
    """

    kind: str
    text: str
    holds: bool
    seen: tuple[Seen, ...]
    parts: tuple[Explanation, ...]
    deciding: bool
    changes_at: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """A condition that can be explained. `holds` of a leaf; an inner node's verdict is that of its parts."""

    kind: str
    text: str
    holds: Holds | None = None
    see: See | None = None
    parts: tuple[Node, ...] = ()


class Explainer:
    """The conditions of a set of definitions, by audience: `when`, `require` and the beginning of each, as one node."""

    def __init__(
        self,
        definitions: Sequence[AudienceDefinition],
        traits: Sequence[ComputedTraitDefinition] = (),
        generations: Mapping[str, int] = NO_GENERATIONS,
    ) -> None:
        """Raises what compiling the definitions raises; `generations` as for that."""
        self._generations = generations
        self._readers = TraitSources(traits).reader
        self.definitions = {definition.key: definition for definition in definitions}
        self._of_accounts = {
            key: definition
            for key, definition in self.definitions.items()
            if definition.entity is Entity.ACCOUNT
        }
        self._conditions = {key: self._parts(definition) for key, definition in self.definitions.items()}

    @property
    def of_accounts(self) -> Explainer:
        """What the audiences of accounts ask of an account, which is a profile too."""
        return _AccountExplainer(tuple(self._of_accounts.values()), (), self._generations)

    def node(self, key: str, created: int) -> Node:
        """All that the audience's `holds` asks for; `created` is that of the compiled audience, 0: always."""
        parts = self._conditions[key]
        if created:
            parts = (_beginning(created), *parts)
        if len(parts) == 1:
            return parts[0]
        words = " and ".join(part.text for part in parts) or _nothing_asked(self.definitions[key].source)
        return Node("all", words, parts=parts)

    def _parts(self, definition: AudienceDefinition) -> tuple[Node, ...]:
        # The instant of a beginning decides what is folded, not what is asked of it.
        since = since_of(definition, self._generations.get(definition.key), None)
        return self._compiled(definition, Scope(since, definition.lookback_ms))

    def _compiled(self, definition: AudienceDefinition, scope: Scope) -> tuple[Node, ...]:
        compiler = _NodeCompiler(definition.key, self._readers, scope)
        conditions: list[Condition | None] = [definition.when, definition.require]
        first: tuple[Node, ...] = ()
        if definition.entity is Entity.ACCOUNT:
            first = (_account_node(definition.key),)
            conditions = [definition.require]
        return (*first, *(compiler.node(condition) for condition in conditions if condition is not None))


def _nothing_asked(source: AudienceSource) -> str:
    beyond = f" beyond what {TELLS[source]} says" if source in TELLS else ""
    return f"nothing is required{beyond}"


class _AccountExplainer(Explainer):
    def _compiled(self, definition: AudienceDefinition, scope: Scope) -> tuple[Node, ...]:
        def of(condition: UsersCondition) -> Holds:
            return of_users(key_asked(condition, scope), condition.quantifier)

        compiler = _NodeCompiler(definition.key, self._readers, scope, of)
        return () if definition.when is None else (compiler.node(definition.when),)


class _NodeCompiler:
    def __init__(
        self,
        key: str,
        readers: Readers,
        scope: Scope,
        of: Callable[[UsersCondition], Holds] | None = None,
    ) -> None:
        self._compile = ConditionCompiler(f"audience {key}", readers, scope, of).compile
        self._readers = readers
        self._scope = scope

    def node(self, condition: Condition) -> Node:
        text = describe_condition(condition)
        if isinstance(condition, AllOf | AnyOf):
            return Node(condition.kind, text, parts=tuple(self.node(part) for part in condition.conditions))
        if isinstance(condition, Not):
            return Node(condition.kind, text, parts=(self.node(condition.condition),))
        return Node(condition.kind, text, self._compile(condition), self._see(condition))

    def _see(
        self, condition: EventCondition | TraitCondition | AudienceReference | UsersCondition
    ) -> See | None:
        if isinstance(condition, UsersCondition):
            return _users_seen(key_asked(condition, self._scope))
        if isinstance(condition, AudienceReference):
            return None
        if isinstance(condition, TraitCondition):
            return _traits_seen((condition.trait, *_referred(condition)), self._readers)
        limited = within_lookback(condition, self._scope.lookback_ms)
        traits = _traits_seen(tuple(_referred(condition)), self._readers)
        if limited is None:
            return traits
        return _events_seen(limited, observer(limited, self._readers, self._scope.since), traits)


def _account_node(key: str) -> Node:
    """Of a person, what brings them into an audience of accounts."""
    short = audience_id(key)

    def see(state: ProfileState, _now: int, _horizon: int) -> tuple[Seen, ...]:
        ties = {} if state.ties is None else state.ties.accounts
        return tuple(
            Seen(f"account {account.removeprefix(ACCOUNT)}", short in tie.audiences)
            for account, tie in sorted(ties.items())
        )

    return Node("account", "in an account that is a member", of_account(key), see)


def _users_seen(key: str) -> See:
    def see(state: ProfileState, _now: int, _horizon: int) -> tuple[Seen, ...]:
        stands = [] if state.ties is None else state.ties.stands
        holding = sum(stand.users for stand in stands if stand.holds.get(key))
        return Seen("users", sum(stand.users for stand in stands)), Seen("of whom it holds", holding)

    return see


def _beginning(created: int) -> Node:
    words = f"the audience begins at {format_instant(created)}"
    return Node("created", words, lambda _state, now, _horizon: now >= created)


# --- what is seen -------------------------------------------------------------------------------------------------


def _referred(condition: EventCondition | TraitCondition) -> Iterator[str]:
    """The traits that the condition compares with."""
    if isinstance(condition, TraitCondition):
        operands: list[Any] = [item.operand for item in condition.comparisons]
    else:
        items = [*condition.where, *condition.context]
        if condition.then is not None:
            items += [*condition.then.where, *condition.then.context]
        operands = [item.operand for item in items]
        if condition.aggregate is not None:
            operands += [operand for _, operand in condition.aggregate.comparisons]
    yield from dict.fromkeys(operand.trait for operand in operands if isinstance(operand, TraitReference))


def _traits_seen(paths: Sequence[str], readers: Readers) -> See:
    reads = [(path, readers(path), identifies_people(path)) for path in dict.fromkeys(paths)]

    def see(state: ProfileState, _now: int, _horizon: int) -> tuple[Seen, ...]:
        return tuple(
            Seen(f"trait {path}", HIDDEN if hidden and value is not None else _shown(value))
            for path, read, hidden in reads
            for value in (read(state),)
        )

    return see


def _events_seen(condition: EventCondition, observe: Observe, traits: See) -> See:
    name = "events followed so" if condition.then is not None else "events"
    aggregate = condition.aggregate

    def see(state: ProfileState, now: int, horizon: int) -> tuple[Seen, ...]:
        observed = observe(state, now, horizon)
        seen = [Seen(name, observed.count, observed.or_more)]
        if aggregate is not None:
            seen.append(Seen(f"{aggregate.function} of {aggregate.property_path}", observed.aggregate))
        if observed.newest is not None:
            seen.append(Seen("newest event", format_instant(observed.newest)))
        return (*seen, *traits(state, now, horizon))

    return see


def _shown(value: Any) -> str | int | float | bool | None:
    if value is None or (type(value) in _PLAIN and type(value) is not str):
        plain: int | float | bool | None = value
        return plain
    text = ", ".join(text_of(item) or "" for item in value) if type(value) is list else text_of(value) or ""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."


# --- asking -------------------------------------------------------------------------------------------------------


def verdicts(node: Node, state: ProfileState, now: int, horizon: int) -> list[bool]:
    """Of the node and all within it, each before its parts."""
    if node.holds is not None:
        return [node.holds(state, now, horizon)]
    parts = [verdicts(part, state, now, horizon) for part in node.parts]
    return [_joined(node.kind, [part[0] for part in parts]), *(verdict for part in parts for verdict in part)]


def _joined(kind: str, truths: Sequence[bool]) -> bool:
    if kind == "not":
        return not truths[0]
    return any(truths) if kind == "any" else all(truths)


def explain(
    node: Node,
    state: ProfileState,
    now: int,
    horizon: int,
    changes: Sequence[int | None] = (),
) -> Explanation:
    """`changes`: of the node and all within it, in the order of `verdicts`, when each changes; empty: not known."""
    truths = iter(verdicts(node, state, now, horizon))
    instants = iter(changes)

    def made(part: Node) -> Explanation:
        truth, changes_at = next(truths), next(instants, None)
        return Explanation(
            kind=part.kind,
            text=part.text,
            holds=truth,
            seen=() if part.see is None else part.see(state, now, horizon),
            parts=tuple(made(inner) for inner in part.parts),
            deciding=False,
            changes_at=changes_at,
        )

    return _decided(made(node))


def beside_the_point(whole: Explanation) -> Explanation:
    """With no part of it marked: the verdict rests on something else."""
    return replace(whole, parts=tuple(map(beside_the_point, whole.parts)), deciding=False)


def _decided(whole: Explanation) -> Explanation:
    """With what its verdict rests on marked: of `any` that holds the parts that hold, of `all` that does not the
    others.
    """
    some = whole.kind == ("any" if whole.holds else "all")
    parts = (_decided(part) if part.holds is whole.holds or not some else part for part in whole.parts)
    return replace(whole, parts=tuple(parts), deciding=True)
