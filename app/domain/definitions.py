"""Audience definitions, read from the text of YAML files.

The language is described in docs/audience-language.md. Reading is pure: files are an adapter's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.computed_trait_warnings import warn_about_computed_traits
from app.domain.definitions_accounts import check_accounts, read_entity
from app.domain.definitions_conditions import ConditionReader
from app.domain.definitions_facebook import read_destinations
from app.domain.definitions_fields import traits_sent
from app.domain.definitions_keys import AUDIENCE_KEYS, refuse_other_keys
from app.domain.definitions_references import check_references, check_traits, names_read
from app.domain.definitions_rows import check_sync_modes, read_rows
from app.domain.definitions_traits import read_computed_trait
from app.domain.definitions_values import (
    Findings,
    Value,
    is_key,
    read_boolean,
    read_choice,
    read_instant,
    read_length,
    read_line,
    read_text,
)
from app.domain.definitions_warnings import warn_about_lookback, warn_about_requirement
from app.domain.engage_defaults import DEFAULTS, PLAIN
from app.domain.instants import parse_instant
from app.domain.room import PROFILE_EVENTS
from app.domain.snake_case import snake_case
from app.domain.yaml_nodes import read_nodes
from app.errors import InvalidInputError
from schemas.audience import (
    AllOf,
    AudienceDefinition,
    AudienceSource,
    ComputedTraitDefinition,
    Condition,
    Entity,
    Rows,
    TraitCondition,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.definitions_references import Reference

MAX_NAME_CHARACTERS = 500

_SOURCES: Final = tuple(source.value for source in AudienceSource)
# Who decides in place of a condition.
_DECIDES: Final = {
    AudienceSource.ENGAGE: "Segment Engage decides",
    AudienceSource.REVERSE_ETL: "the rows of the warehouse decide",
}
_OF_EACH_AUDIENCE: Final = ("name", "key")
# What two audiences that have the same members have in common.
_MEANING: Final = {
    "entity",
    "when",
    "require",
    "include_anonymous",
    "include_history",
    "created_at",
    "lookback_ms",
}
# Merged by their own rules: `require` of both must hold, `facebook` is merged key by key.
_OWN_RULES: Final = ("require", "facebook")


@dataclass(frozen=True, slots=True)
class Document:
    """A text to read; `name` is what its problems are reported under."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DefinitionSet:
    """Audiences and computed traits in the order of the documents; keys differ.

    `warnings` are lines for whoever wrote them, `remarks` those that are said when definitions are checked and not each
    time they are used. `defaults` is what an audience is that a call of Engage names.
    """

    audiences: tuple[AudienceDefinition, ...]
    warnings: tuple[str, ...]
    traits: tuple[ComputedTraitDefinition, ...] = ()
    defaults: AudienceDefinition = PLAIN
    remarks: tuple[str, ...] = ()


def parse_definitions(documents: Sequence[Document], profile_events: int = PROFILE_EVENTS) -> DefinitionSet:
    """Read documents as one set: `defaults` of one hold for the audiences of all. `profile_events` are kept of each thing
    that is counted, which no count one by one may be beyond.

    Raises InvalidInputError with one line per problem: `FILE:LINE: PATH: what was expected`.
    """
    findings = Findings([document.name for document in documents], profile_events)
    defaults: dict[str, Value] = {}
    values: list[Value] = []
    accepted = _Accepted()
    for document in documents:
        entries = _read_document(document, findings)
        if "defaults" in entries and not entries["defaults"].is_null:
            _add_defaults(entries["defaults"], defaults)
        if "audiences" in entries and not entries["audiences"].is_null:
            values.extend(entries["audiences"].items("a list of audiences") or ())
        if "traits" in entries and not entries["traits"].is_null:
            _read_traits(entries["traits"], accepted)
    for value in values:
        _read_audience(value, defaults, accepted)
    engage = _read_engage_defaults(defaults, accepted)
    check_references(accepted.references, accepted.keys)
    check_accounts(accepted.account_references, accepted.account_traits, accepted.entities, accepted.traits)
    check_traits(accepted.traits, accepted.names_read)
    computed = {key: definition for key, (_, definition) in accepted.traits.items()}
    warn_about_computed_traits(accepted.trait_conditions, computed)
    problems = findings.problems()
    if problems:
        raise InvalidInputError("\n".join(problems))
    warnings = findings.warnings() or (() if values else ("no audience is defined",))
    traits = tuple(computed.values())
    return DefinitionSet(tuple(accepted.audiences), warnings, traits, engage, findings.remarks())


def published_form(definition: AudienceDefinition | ComputedTraitDefinition) -> dict[str, Any]:
    """The definition as JSON values, equal for definitions that are equal; the model reads it back.

    What has its default value is left out, so a key that a later version adds changes no published definition.
    """
    return definition.model_dump(mode="json", exclude_defaults=True)


def published_forms(definitions: DefinitionSet) -> dict[str, dict[str, Any]]:
    """The published form of every definition: of audiences by key, of computed traits by `traits.KEY`."""
    forms = {audience.key: published_form(audience) for audience in definitions.audiences}
    # A point has no place in the key of an audience.
    forms |= {f"traits.{trait.key}": published_form(trait) for trait in definitions.traits}
    if definitions.defaults != PLAIN:
        forms[DEFAULTS] = published_form(definitions.defaults)
    return forms


def _read_document(document: Document, findings: Findings) -> dict[str, Value]:
    def report(line: int, message: str) -> None:
        findings.problem(document.name, line, "", message)

    node = read_nodes(document.text, report)
    if node is None:
        return {}
    root = Value(node, document.name, 1, "", findings)
    entries = None if root.is_null else root.entries("a mapping with the key `audiences`")
    if entries is None:
        return {}
    refuse_other_keys(entries, ("audiences", "traits", "defaults"))
    return entries


def _add_defaults(value: Value, defaults: dict[str, Value]) -> None:
    entries = value.entries("a mapping of audience keys") or {}
    for name in _OF_EACH_AUDIENCE:
        if name in entries:
            entries.pop(name).refuse(f"`{name}` has no default: each audience has its own")
    known = [name for name in AUDIENCE_KEYS if name not in _OF_EACH_AUDIENCE]
    refuse_other_keys(entries, known)
    for name in known:
        if name in entries and name in defaults:
            entries[name].refuse(f"this default is also given in {defaults[name].place}")
        elif name in entries:
            defaults[name] = entries[name]


def _read_traits(value: Value, accepted: _Accepted) -> None:
    for key, written in (value.entries("a mapping of computed traits") or {}).items():
        first = accepted.trait_keys.setdefault(key, written)
        if first is not written:
            written.refuse(f"the trait `{key}` is also defined in {first.place}")
            continue
        definition = read_computed_trait(key, written)
        if definition is not None:
            accepted.traits[key] = (written, definition)


class _Accepted:
    """The audiences and computed traits read so far, and what no second one may have or should have."""

    def __init__(self) -> None:
        self.audiences: list[AudienceDefinition] = []
        # Of every audience with a key, also of one with problems.
        self.keys: dict[str, Value] = {}
        self.references: dict[str, list[Reference]] = {}
        self.trait_keys: dict[str, Value] = {}
        self.traits: dict[str, tuple[Value, ComputedTraitDefinition]] = {}
        # Of the traits that conditions ask for.
        self.names_read: set[str] = set()
        self.trait_conditions: list[tuple[Value, TraitCondition]] = []
        # What audiences of accounts ask of the accounts themselves.
        self.account_references: list[Reference] = []
        self.account_traits: list[tuple[Value, TraitCondition]] = []
        self.entities: dict[str, Entity] = {}
        self._meanings: dict[str, str] = {}
        self._facebook_ids: dict[str, str] = {}

    def claim(self, value: Value, key: str) -> None:
        first = self.keys.setdefault(key, value)
        if first is not value:
            value.refuse(f"the key `{key}` is taken by {first.place}: change the name or give another `key`")

    def add(self, value: Value, audience: AudienceDefinition) -> None:
        self.audiences.append(audience)
        for condition in (audience.when, audience.require):
            if condition is not None:
                self.names_read.update(names_read(condition))
        if audience.when is not None:
            meaning = audience.model_dump_json(include=_MEANING)
            twin = self._meanings.setdefault(meaning, audience.key)
            if twin != audience.key:
                value.warn(f"`{audience.key}` has the same condition as `{twin}`")
        for destination in audience.destinations:
            self.names_read.update(traits_sent(destination))
            if destination.audience_id is not None:
                other = self._facebook_ids.setdefault(destination.audience_id, audience.key)
                if other != audience.key:
                    value.warn(
                        f"`{other}` is delivered to the same Facebook audience: each removes the other's people"
                    )


def _read_audience(value: Value, defaults: dict[str, Value], accepted: _Accepted) -> None:
    own = value.entries("a mapping with a `name` and a condition under `when`")
    if own is None:
        return
    before = value.findings.reports
    refuse_other_keys(own, AUDIENCE_KEYS)
    name, key = _read_identity(value, own)
    if key is not None:
        accepted.claim(value, key)
    entries = {**{given: default for given, default in defaults.items() if given not in _OWN_RULES}, **own}
    options = _read_options(entries)
    source = _read_source(entries.get("source"))
    entity = read_entity(value, source, entries.get("entity"))
    conditions = ConditionReader()
    when = _read_when(conditions, value, source, entries.get("when"), entity)
    rows = _read_rows(value, source, entries.get("rows"))
    require = _read_require(conditions, own.get("require"), defaults.get("require"))
    destinations = read_destinations(key or "", own.get("facebook"), defaults.get("facebook"))
    if source is not None:
        check_sync_modes(entries.get("facebook", value), source, destinations)
    accepted.trait_conditions += conditions.trait_conditions
    accepted.account_references += conditions.account_references
    accepted.account_traits += conditions.account_traits
    if key is not None:
        accepted.entities.setdefault(key, entity)
        accepted.references.setdefault(key, []).extend(conditions.references)
    if key is None or name is None or source is None or value.findings.reports > before:
        return
    audience = AudienceDefinition(
        key=key,
        name=name,
        source=source,
        entity=entity,
        when=when,
        rows=rows,
        require=require,
        destinations=destinations,
        **options,
    )
    accepted.add(value, audience)
    warn_about_lookback(value, audience)
    if entity is Entity.USER:
        # Of an account what is required is asked of others than the condition.
        warn_about_requirement(value, audience)


def _read_engage_defaults(defaults: dict[str, Value], accepted: _Accepted) -> AudienceDefinition:
    """What holds for an audience that a call of Engage names: what all require, and where they are delivered to.

    Its calls are its history, whatever is said of that of events.
    """
    conditions = ConditionReader()
    options: dict[str, Any] = {
        name: read_boolean(defaults[name]) for name in ("include_anonymous", "enabled") if name in defaults
    }
    if "lookback" in defaults:
        options["lookback_ms"] = read_length(defaults["lookback"])
    require = _read_require(conditions, None, defaults.get("require"))
    destinations = read_destinations(PLAIN.key, None, defaults.get("facebook"))
    accepted.references.setdefault(DEFAULTS, []).extend(conditions.references)
    if None in options.values():
        return PLAIN
    return PLAIN.model_copy(update={"require": require, "destinations": destinations, **options})


def _read_identity(value: Value, own: dict[str, Value]) -> tuple[str | None, str | None]:
    """Name and key."""
    if "name" not in own:
        value.refuse("`name` is missing")
    name = read_line(own["name"], "a name", MAX_NAME_CHARACTERS) if "name" in own else None
    if "key" in own:
        return name, _read_key(own["key"])
    if name is None:
        return None, None
    derived = snake_case(name)
    if not derived:
        own["name"].refuse("no key can be made of a name without Latin letters or digits: give a `key`")
        return name, None
    if not is_key(derived):
        own["name"].refuse("the key made of this name is longer than 200 characters: give a `key`")
        return name, None
    return name, derived


def _read_key(value: Value) -> str | None:
    what = "a key of a-z, 0-9 and _, at most 200 of them"
    text = read_text(value, what)
    if text is not None and not is_key(text):
        value.expected(what)
        return None
    return text


def _read_options(entries: dict[str, Value]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "description" in entries:
        options["description"] = read_text(entries["description"])
    for name in ("include_anonymous", "include_history", "enabled"):
        if name in entries:
            options[name] = read_boolean(entries[name])
    if "created_at" in entries:
        options["created_at"] = parse_instant(read_instant(entries["created_at"]) or "")
    if "lookback" in entries:
        options["lookback_ms"] = read_length(entries["lookback"])
    return options


def _read_source(value: Value | None) -> AudienceSource | None:
    if value is None:
        return AudienceSource.COMPUTED
    source = read_choice(value, _SOURCES)
    return AudienceSource(source) if source else None


def _read_when(
    conditions: ConditionReader,
    audience: Value,
    source: AudienceSource | None,
    value: Value | None,
    entity: Entity,
) -> Condition | None:
    """`when` and `source` must fit; with an unknown source, nothing is said about that."""
    if value is None:
        if source is AudienceSource.COMPUTED:
            audience.refuse(
                "`when` is missing: a computed audience needs a condition (or is it `source: engage`?)"
            )
        return None
    if source in _DECIDES:
        value.refuse(f"an audience with `source: {source}` has no `when`: {_DECIDES[source]} who is in it")
        return None
    return conditions.read_of_account(value) if entity is Entity.ACCOUNT else conditions.read(value)


def _read_rows(audience: Value, source: AudienceSource | None, value: Value | None) -> Rows | None:
    """As `_read_when`, for `rows`."""
    if value is None:
        if source is AudienceSource.REVERSE_ETL:
            audience.refuse(
                "`rows` is missing: which calls are the rows of this audience with `source: reverse_etl`?"
            )
        return None
    if source is not None and source is not AudienceSource.REVERSE_ETL:
        value.refuse("`rows` belongs to an audience with `source: reverse_etl`")
        return None
    return read_rows(value)


def _read_require(conditions: ConditionReader, own: Value | None, default: Value | None) -> Condition | None:
    """Both must hold: an audience adds to what the defaults require, it cannot take away from it."""
    read = [conditions.read(value) for value in (default, own) if value is not None]
    required = [condition for condition in read if condition is not None]
    return AllOf(conditions=required) if len(required) > 1 else next(iter(required), None)
