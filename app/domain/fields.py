"""Mapped fields: what a destination is sent in place of what is found by default, and where it is taken from.

What comes from calls is normalised and hashed where they come in, and is known of a profile under a name of its own,
`COLUMN@SLOT`, beside what is found by default. A slot is a run of sources of one field in the order of their mapping,
of which the first that is not blank counts in each call; two mappings that ask for the same have one slot. What comes
from a computed trait or is a constant is not known before a row is made. app.domain.field_compiling makes both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.domain.fold import MAPPED_SEVERAL, MAX_OF_ONE_KIND
from app.domain.normalization import MetaKey, NormalizationOptions, Normalized, normalize_fields
from app.domain.normalization_text import is_hash
from app.domain.paths import ARRAY_ITEMS, parse_path
from app.domain.person import default_country, is_blank
from app.domain.profile_ids import external_id_of, holds_personal_data
from app.domain.scoped_ids import SCOPED_FIELDS, ScopedKey, normalize_scoped_id
from app.domain.trait_sources import name_of
from schemas.segment import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from app.domain.person import Identifiers
    from app.domain.rows import Row
    from app.domain.state import ProfileState
    from schemas.segment import SegmentEvent

SEPARATOR: Final = "@"
_BIRTH: Final = (MetaKey.DOBY, MetaKey.DOBM, MetaKey.DOBD)
# What fills each column; of several fields that do, the one that stands first.
COLUMNS_OF: Final[Mapping[str, tuple[MetaKey | ScopedKey, ...]]] = {
    "external_id": (MetaKey.EXTERN_ID,),
    "email": (MetaKey.EMAIL,),
    "phone": (MetaKey.PHONE,),
    "gender": (MetaKey.GEN,),
    "birth.year": (MetaKey.DOBY,),
    "birth.month": (MetaKey.DOBM,),
    "birth.day": (MetaKey.DOBD,),
    "birth": _BIRTH,
    "birthday": _BIRTH,
    "name.last": (MetaKey.LN,),
    "name.first": (MetaKey.FN,),
    "name.first_initial": (MetaKey.FI,),
    "name": (MetaKey.LN, MetaKey.FN, MetaKey.FI),
    "city": (MetaKey.CT,),
    "state": (MetaKey.ST,),
    "zip": (MetaKey.ZIP,),
    "country": (MetaKey.COUNTRY,),
    "mobile_advertiser_id": (MetaKey.MADID,),
    "value": (MetaKey.LOOKALIKE_VALUE,),
    **{name: (column,) for name, column in SCOPED_FIELDS.items()},
}
# Read differently in different countries.
GUIDED: Final = frozenset({"phone", "state", "zip"})
_SCOPED: Final[tuple[str, ...]] = tuple(key.value for key in ScopedKey)
_COLUMNS: Final = (*(key.value for key in MetaKey if key is not MetaKey.EXTERN_ID), *_SCOPED)
_EXTERNAL_ID: Final = MetaKey.EXTERN_ID.value
_VALUE: Final = MetaKey.LOOKALIKE_VALUE.value
_IDENTIFY: Final = "identify"
_GROUP: Final = "group"
_TRAITS: Final = "traits."
# Parts of a call that one may be without, and what stands for that.
_ROOTS: Final = ("traits", "properties", "context")


def normalized(
    name: str, value: object, country: object, options: NormalizationOptions
) -> dict[str, str | float]:
    """Column -> what is sent of this value of the field `name`; nothing where it cannot be used."""
    if name in SCOPED_FIELDS:
        outcome = normalize_scoped_id(value)
        if options.left_blank is not None:
            options.left_blank.unusable({SCOPED_FIELDS[name]: outcome})
        return {SCOPED_FIELDS[name].value: outcome.value} if isinstance(outcome, Normalized) else {}
    whole, _, part = name.partition(".")
    given: dict[str, object] = {"country": country}
    given[whole] = {part: value} if part else value
    outcomes = normalize_fields(given, options)
    if options.left_blank is not None:
        own = COLUMNS_OF[name]
        options.left_blank.unusable({key: one for key, one in outcomes.items() if key in own})
    found: dict[str, str | float] = {}
    for column in COLUMNS_OF[name]:
        one = outcomes.get(column) if isinstance(column, MetaKey) else None
        if isinstance(one, Normalized):
            found[column.value] = _sent(column, one.value)
    return found


def _sent(column: MetaKey | ScopedKey, value: str | float) -> str | float:
    """An external id that is an e-mail address or a phone number is not sent, or written, as it is."""
    if column is MetaKey.EXTERN_ID and holds_personal_data(str(value)):
        return _sha256(value)
    return value


def hashed_external_id(value: str | float) -> str:
    """What `external_id: sha256` sends of an external id; a hash stays the hash that it is."""
    text = str(value)
    return text.lower() if is_hash(text) else _sha256(text)


def _sha256(value: str | float) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


# --- what is taken of calls -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the call; of a trait, only in identify calls. The traits of a group call are the group's."""

    path: str
    of_identify: bool
    extract: Callable[[Any], Any]

    def read(self, whole: dict[str, Any]) -> tuple[bool, Any]:
        """Whether it is there at all, and the value."""
        call_type = whole.get("type")
        if call_type == _GROUP and self.path.startswith(_TRAITS):
            return False, None
        if self.of_identify and call_type != _IDENTIFY:
            return False, None
        value = self.extract(whole)
        return value is not None or _has(whole, self.path), value


def _has(whole: Any, path: str) -> bool:
    """Whether the place is there, with null in it."""
    for name in parse_path(path):
        if name is ARRAY_ITEMS or type(whole) is not dict or name not in whole:
            return False
        whole = whole[name]
    return True


@dataclass(frozen=True, slots=True)
class Slot:
    """`country`: what guides the reading, None: the call's country by default. `hashes`: an external id is known as
    its hash alone.
    """

    id: str
    name: str
    places: tuple[Place, ...]
    country: Callable[[dict[str, Any]], Any] | None
    hashes: bool = False

    def columns(self) -> Iterable[str]:
        """The names under which its values are known of a profile."""
        return (f"{column.value}{SEPARATOR}{self.id}" for column in COLUMNS_OF[self.name])

    def take(self, whole: dict[str, Any], options: NormalizationOptions) -> Identifiers:
        """What a call says of the field; None: that there is nothing which can be sent, as an identify call does."""
        columns = [column.value for column in COLUMNS_OF[self.name]]
        present, value = first_of(self.places, whole, columns, options)
        if not present:
            return {}
        country = None
        if self.name in GUIDED:
            country = default_country(whole) if self.country is None else self.country(whole)
        values = value if type(value) is list else [value]
        found: Identifiers = {}
        if columns[0] in MAPPED_SEVERAL:
            (column,) = columns
            usable = [item for item in values if not is_blank(item)][:MAX_OF_ONE_KIND]
            sent = (normalized(self.name, item, country, options).get(column) for item in usable)
            known = (str(one) for one in sent if one is not None)
            several = list(dict.fromkeys(map(hashed_external_id, known) if self.hashes else known))
            if several:
                found[f"{column}{SEPARATOR}{self.id}"] = several
            return found
        made = {} if value is None else normalized(self.name, value, country, options)
        for column in columns:
            if column in made or whole.get("type") == _IDENTIFY:
                found[f"{column}{SEPARATOR}{self.id}"] = made.get(column)
        return found


def first_of(
    places: Sequence[Place],
    whole: dict[str, Any],
    columns: Sequence[str] = (),
    options: NormalizationOptions | None = None,
) -> tuple[bool, Any]:
    """Whether any of the places is there, and the first value that is not blank; blanks before it are counted."""
    present = False
    for place in places:
        there, value = place.read(whole)
        present = present or there
        if there and not is_blank(value):
            return True, value
        if there and options is not None and options.left_blank is not None:
            options.left_blank.blank(columns, value)
    return present, None


class CallFields:
    """All that the mappings of a plan take of calls."""

    __slots__ = ("_everywhere", "_roots", "columns", "reads_tracks", "slots")

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.slots = tuple(slots)
        self.columns = frozenset(column for slot in self.slots for column in slot.columns())
        roots = {name_of(place.path) for slot in self.slots for place in slot.places}
        self._roots = [root for root in _ROOTS if root in roots]
        self._everywhere = not roots <= set(_ROOTS)
        # Whether calls without traits have anything of it.
        self.reads_tracks = self._everywhere or bool(roots - {"traits"})

    def may_be_in(self, call: SegmentEvent) -> bool:
        """Whether the call has any of the parts that mappings look into."""
        return self._everywhere or any(getattr(call, root) not in (None, ABSENT) for root in self._roots)

    def take(self, whole: dict[str, Any], options: NormalizationOptions) -> Identifiers:
        """What the whole call says, by the names under which it is known of a profile."""
        found: Identifiers = {}
        for slot in self.slots:
            found.update(slot.take(whole, options))
        return found


# --- what is sent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowMapping:
    """How the rows of one destination are made. `digest` differs between mappings that may make other rows."""

    digest: str
    columns: Mapping[str, tuple[Callable[[ProfileState], list[str | float]], ...]]
    value_based: bool
    hashes_external_id: bool
    slots: tuple[Slot, ...] = field(repr=False)

    def rows(self, profile: str, state: ProfileState) -> list[Row]:
        """As `app.domain.rows.rows_of`, with the mapped columns in place of those found by default."""
        ids = self._values(_EXTERNAL_ID, profile, state)
        if self.hashes_external_id:
            ids = [hashed_external_id(one) for one in ids]
        found: Row = {_EXTERNAL_ID: ids[0]} if ids else {}
        row: Row = dict(found)
        further: list[Row] = [{_EXTERNAL_ID: one} for one in ids[1:]]
        finds = bool(ids)
        for column in _COLUMNS:
            values = self._values(column, profile, state)
            if values:
                row[column] = values[0]
                finds = finds or column in MAPPED_SEVERAL
                further += [{**found, column: value} for value in values[1:]]
        if not finds:
            return []
        if self.value_based:
            value = row.setdefault(_VALUE, 0)
            further = [{**one, _VALUE: value} for one in further]
        scopes = {column: row[column] for column in _SCOPED if column in row}
        if scopes:
            further = [{**one, **scopes} for one in further]
        return [row, *further]

    def _values(self, column: str, profile: str, state: ProfileState) -> list[str | float]:
        """Of a column that a person may have several of, all of them, the newest first."""
        takes = self.columns.get(column)
        if takes is None:
            if column == _EXTERNAL_ID:
                external_id = external_id_of(profile)
                return [] if external_id is None else [external_id]
            return known_of(state, column)
        for take in takes:
            values = take(state)
            if values:
                return values
        return []


def known_of(state: ProfileState, column: str) -> list[str | float]:
    """What is known of a profile under this name, the newest first."""
    known = state.identifiers.get(column)
    if known is None or known.value is None:
        return []
    return [known.value, *state.further.get(column, ())]
