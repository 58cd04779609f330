"""The published definitions: versions of one set, what changes between two, and which version runs where.

A version is the whole set. What workers do with several at once is app.domain.plan_versions' business.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from app.domain.definitions import DefinitionSet, published_form, published_forms
from app.domain.engage_defaults import DEFAULTS, PLAIN, created_audiences
from app.domain.engage_places import with_place
from app.domain.formats import read_stored, unreadable
from app.domain.plan_changes import generations_after
from app.errors import InvalidInputError, UnreadableRecordError
from schemas.audience import AudienceDefinition, ComputedTraitDefinition, OnDelete, SyncMode
from schemas.base import StoredMessage
from schemas.control import (
    DEFINITIONS,
    DESIRED,
    PLACED,
    REPARTITION,
    RUNNING,
    SET_ASIDE,
    WANTED,
    DefinitionsRecord,
    DesiredRecord,
    PlacedRecord,
    RepartitionRecord,
    RunningRecord,
    SetAsideRecord,
    WantedRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.control import Place

    Forms = Mapping[str, dict[str, Any]]

_Record = TypeVar("_Record", bound=StoredMessage)
_Definition = TypeVar("_Definition", AudienceDefinition, ComputedTraitDefinition)

_TRAIT: Final = "traits."
# Digests of earlier versions; a file that is older than all of them counts as new.
MAX_EARLIER: Final = 1_000
# Characters of a record's key in a message.
_SHOWN: Final = 100
# Of one version as JSON: Kafka takes records of 1 MiB by default.
MAX_BYTES: Final = 900_000


@dataclass(frozen=True, slots=True)
class Published:
    """What audience.control holds: the versions that are kept by number, the version of each partition, and what people
    want of audiences and destinations.
    """

    versions: Mapping[int, DefinitionsRecord] = field(default_factory=dict)
    running: Mapping[int, int] = field(default_factory=dict)
    # Partitions in which anything waits for its past.
    filling: frozenset[int] = frozenset()
    # Keys of audiences that calls of Engage have named.
    wanted: frozenset[str] = frozenset()
    desired: Mapping[str, DesiredRecord] = field(default_factory=dict)
    # Where calls of Engage say that audiences are, by key.
    placed: Mapping[str, PlacedRecord] = field(default_factory=dict)
    # Set while the topics are on their way to another number of partitions.
    repartition: RepartitionRecord | None = None
    # Topic, partition and offset of records that are to become dead letters.
    set_aside: frozenset[tuple[str, int, int]] = frozenset()

    def refuse_half_moved(self) -> None:
        """Raises InvalidInputError while the topics are being repartitioned: what is in them is not whole."""
        move = self.repartition
        if move is not None:
            raise InvalidInputError(
                f"the topics are on their way from {move.before} partitions to {move.after}, and that is not finished: run "
                f"`audience-sync topics repartition --partitions {move.after}` to its end first"
            )

    @property
    def newest(self) -> DefinitionsRecord | None:
        return self.versions[max(self.versions)] if self.versions else None

    @property
    def filled(self) -> frozenset[str]:
        """What the newest version fills from history, by the keys of its generations."""
        newest = self.newest
        return frozenset() if newest is None else filled_by_version(newest)

    def is_filling(self, partitions: int) -> bool:
        """Whether that is still to be done somewhere."""
        newest = self.newest
        return bool(newest and self.filled) and any(
            number in self.filling or self.running.get(number, 0) < max(self.versions)
            for number in range(partitions)
        )

    def in_force(self, partitions: int) -> tuple[int, ...]:
        """The versions that some partition of profile.events may run by, or may still come to, in order.

        A partition that has said nothing yet may begin with any.
        """
        least = min((self.running.get(number, 0) for number in range(partitions)), default=0)
        newest = max(self.versions, default=0)
        return tuple(number for number in sorted(self.versions) if number >= least or number == newest)


def read_published(records: Mapping[bytes, bytes]) -> Published:
    """Of the newest values by key; kinds of records that are not known here are passed over.

    Raises NewerFormatError, or UnreadableRecordError for one that no release has written: none can be passed over.
    """
    versions, running, filling, named, desired, placed = {}, {}, set(), set(), {}, {}
    repartition, set_aside = None, set()
    for key, value in records.items():
        kind = key.partition(b"|")[0].decode(errors="replace")
        if kind == DEFINITIONS:
            record = _read(DefinitionsRecord, key, value)
            versions[record.number] = record
        elif kind == RUNNING:
            state = _read(RunningRecord, key, value)
            running[state.partition] = state.number
            if state.filling:
                filling.add(state.partition)
        elif kind == WANTED:
            named.add(_read(WantedRecord, key, value).audience)
        elif kind == DESIRED:
            wanted = _read(DesiredRecord, key, value)
            desired[wanted.target] = wanted
        elif kind == PLACED:
            noted = _read(PlacedRecord, key, value)
            placed[noted.audience] = noted
        elif kind == REPARTITION:
            repartition = _read(RepartitionRecord, key, value)
        elif kind == SET_ASIDE:
            aside = _read(SetAsideRecord, key, value)
            set_aside.add((aside.topic, aside.partition, aside.offset))
    return Published(
        versions,
        running,
        frozenset(filling),
        frozenset(named),
        desired,
        placed,
        repartition,
        frozenset(set_aside),
    )


def filled_by_version(record: DefinitionsRecord) -> frozenset[str]:
    """The keys of what this version fills from history: see `DefinitionsRecord.generations`."""
    return frozenset(key for key, number in record.generations.items() if number == record.number)


def _read(model: type[_Record], key: bytes, value: bytes) -> _Record:
    try:
        return read_stored(model, value)
    except UnreadableRecordError as error:
        raise _named(key.decode(errors="replace"), error) from None


def _named(key: str, error: UnreadableRecordError) -> UnreadableRecordError:
    return UnreadableRecordError(
        f"audience.control, key {key[:_SHOWN]!r}: {error}; write what belongs there, or a record of that key without value"
    )


def content_digest(forms: Forms) -> str:
    """Equal for sets that are equal, in whatever order and words they are written."""
    return hashlib.sha256(json.dumps(forms, sort_keys=True).encode()).hexdigest()


def definitions_of(record: DefinitionsRecord, *, placed: bool = True) -> DefinitionSet:
    """The definitions of a version, with those that Engage named and without those that are being cleared.

    `placed`: with the places that calls of Engage named, where the definitions leave them open.

    Raises UnreadableRecordError.
    """
    audiences, traits, defaults = [], [], PLAIN
    for key, form in record.definitions.items():
        if key.startswith(_TRAIT):
            traits.append(_definition(ComputedTraitDefinition, record, form))
        elif key == DEFAULTS:
            defaults = _definition(AudienceDefinition, record, form)
        else:
            audiences.append(_definition(AudienceDefinition, record, form))
    audiences += created_audiences(defaults, record.created)
    if placed and record.placed:
        audiences = [with_place(audience, record.placed.get(audience.key)) for audience in audiences]
    return DefinitionSet(tuple(audiences), (), tuple(traits), defaults)


def cleared_by(record: DefinitionsRecord) -> tuple[AudienceDefinition, ...]:
    """The deleted audiences whose Facebook audiences are to be emptied. Raises UnreadableRecordError."""
    return tuple(_definition(AudienceDefinition, record, form) for form in record.cleared.values())


def _definition(model: type[_Definition], record: DefinitionsRecord, form: dict[str, Any]) -> _Definition:
    try:
        return model.model_validate(form)
    except ValidationError as exc:
        raise _named(record.key, unreadable(model, exc)) from None


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys of definitions, sorted; a computed trait's is `traits.KEY`."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def changes(before: DefinitionsRecord | None, forms: Forms) -> Changes:
    """From one version to a set that may follow it."""
    known: Forms = before.definitions if before else {}
    both = known.keys() & forms.keys()
    # Of defaults there are always some.
    changed = {key for key in {*both, DEFAULTS} if known.get(key) != forms.get(key)}
    return Changes(
        added=tuple(sorted(forms.keys() - known.keys() - {DEFAULTS})),
        changed=tuple(sorted(changed)) if before else (),
        removed=tuple(sorted(known.keys() - forms.keys() - {DEFAULTS})),
    )


def was_published(record: DefinitionsRecord, digest: str) -> bool:
    """As this version or an earlier one."""
    return digest == record.digest or digest in record.earlier


def next_version(
    before: DefinitionsRecord | None,
    definitions: DefinitionSet,
    now_ms: int,
    generations: Mapping[str, int] | None = None,
) -> DefinitionsRecord:
    """The version that follows. Raises InvalidInputError for a set that is too large for one record."""
    forms = published_forms(definitions)
    earlier = (*before.earlier, before.digest)[-MAX_EARLIER:] if before else ()
    record = DefinitionsRecord(
        number=before.number + 1 if before else 1,
        digest=content_digest(forms),
        definitions=forms,
        cleared=_cleared(before, forms),
        created=_created(before, forms),
        placed=_placed(before, forms),
        earlier=earlier,
        generations=dict(generations or {}),
        published_at=now_ms,
    )
    if len(record.model_dump_json()) > MAX_BYTES:
        raise InvalidInputError(
            f"the definitions are larger than {MAX_BYTES:,} bytes together: more are not supported yet"
        )
    return record


def _created(before: DefinitionsRecord | None, forms: Forms) -> tuple[str, ...]:
    """They stay until somebody defines them."""
    return () if before is None else tuple(key for key in before.created if key not in forms)


def _placed(before: DefinitionsRecord | None, forms: Forms) -> dict[str, Place]:
    """They stay as long as the audience does."""
    if before is None:
        return {}
    return {key: place for key, place in before.placed.items() if key in forms or key in before.created}


def _cleared(before: DefinitionsRecord | None, forms: Forms) -> dict[str, dict[str, Any]]:
    """Deleted audiences whose Facebook audiences are emptied, until one of the same key is defined again."""
    if before is None:
        return {}
    cleared = dict(before.cleared)
    for key in changes(before, forms).removed:
        if not key.startswith(_TRAIT):
            known = AudienceDefinition.model_validate(before.definitions[key])
            definition = _emptied(with_place(known, before.placed.get(key)))
            if definition.destinations:
                cleared[key] = published_form(definition)
    return {key: form for key, form in cleared.items() if key not in forms}


def _emptied(definition: AudienceDefinition) -> AudienceDefinition:
    """The audience without members, and of its destinations those that are to lose theirs.

    Its conditions are gone with it: they may ask for what is not defined any longer.
    """
    destinations = [
        destination.model_copy(update={"sync_mode": SyncMode.MIRROR})
        for destination in definition.destinations
        if destination.on_delete is OnDelete.CLEAR
    ]
    return AudienceDefinition(
        key=definition.key,
        name=definition.name,
        source="engage",
        enabled=False,
        destinations=destinations,
    )


def still_noted(published: Published, record: DefinitionsRecord) -> set[str]:
    """The keys that are wanted though they are defined, or have been until this version."""
    newest = published.newest
    known = {*record.definitions, *record.created}
    if newest is not None:
        known |= {*newest.definitions, *newest.created}
    return known & published.wanted


# --- who may publish what ---


def to_apply(
    published: Published, definitions: DefinitionSet, partitions: int, now_ms: int, *, allow_delete: bool
) -> DefinitionsRecord | None:
    """What a person's `apply` publishes; None: it is what is published already.

    Raises InvalidInputError for deletions that are not allowed and changes that cannot be made.
    """
    newest = published.newest
    forms = published_forms(definitions)
    if newest is not None and newest.digest == content_digest(forms):
        return None
    removed = changes(newest, forms).removed
    if removed and not allow_delete:
        raise InvalidInputError(
            f"{', '.join(removed)}: published, and not in this file. Nothing was changed: give --allow-delete to "
            "delete what the file leaves out"
        )
    if newest is not None and published.is_filling(partitions):
        raise InvalidInputError(
            f"version {newest.number} is still being filled from history ({', '.join(sorted(published.filled))}). "
            "Nothing was changed: try again when `audience-sync audiences list` says that it is done"
        )
    return _following(newest, definitions, now_ms)


def to_publish_at_start(
    published: Published, definitions: DefinitionSet, file: str, partitions: int, now_ms: int
) -> tuple[DefinitionsRecord | None, str | None]:
    """What a worker that starts publishes of its own file, and what it has to say.

    Only what was never published before, so that a worker with an old file takes nothing back; and it deletes nothing.
    Raises InvalidInputError for changes that cannot be made.
    """
    newest = published.newest
    if newest is None:
        return next_version(None, definitions, now_ms), None
    forms = published_forms(definitions)
    digest = content_digest(forms)
    if digest == newest.digest:
        return None, None
    runs = f"version {newest.number} of the definitions runs, whatever the file says"
    if was_published(newest, digest):
        return None, f"{file}: this was published before, and a newer version since: {runs}"
    found = changes(newest, forms)
    if found.removed:
        return None, (
            f"{file}: leaves out {', '.join(found.removed)}, and a worker deletes nothing: {runs}. "
            "`audience-sync audiences apply FILE --allow-delete` deletes"
        )
    if published.is_filling(partitions):
        return None, f"{file}: not published while version {newest.number} is filled from history: {runs}"
    record = _following(newest, definitions, now_ms)
    changed = ", ".join((*found.added, *found.changed))
    return record, f"{file}: published as version {record.number} of the definitions, new in: {changed}"


def _following(
    newest: DefinitionsRecord | None, definitions: DefinitionSet, now_ms: int
) -> DefinitionsRecord:
    if newest is None:
        return next_version(None, definitions, now_ms)
    record = next_version(newest, definitions, now_ms)
    generations = generations_after(
        definitions_of(newest), definitions_of(record), newest.generations, record.number, now_ms
    )
    return next_version(newest, definitions, now_ms, generations)
