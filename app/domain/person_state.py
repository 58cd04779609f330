"""PersonState: what a profile knows of who the person is, and its packed form.

Most events neither ask for it nor change it. It rests in the profile's state as bytes of its own, hashes and UUIDs raw
and times as differences, and is read when somebody asks.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from app.domain.compact import compact, raw_of, restored, text_of
from app.domain.normalization import MetaKey
from app.domain.profile_ids import EMAIL, MOBILE

_EMAIL: Final = MetaKey.EMAIL.value
_MADID: Final = MetaKey.MADID.value

# Columns that have been written as their place here: only ever added to at the end. Others are written out.
_COLUMNS: Final = tuple(column.value for column in MetaKey)
_PLACES: Final = {column: place for place, column in enumerate(_COLUMNS)}

# Of the first byte: the profile has an identifier that makes it eligible (see app.domain.rows).
_ELIGIBLE: Final = 1
# Before the sequence of an inherited membership that had been left.
_LEFT: Final = "~"
# In place of an alias: it is the current value of this column.
_SAME_AS: Final = ((_EMAIL, EMAIL), (_MADID, MOBILE))
_PREFIXES: Final = {_PLACES[column]: prefix for column, prefix in _SAME_AS}


class IdentifierState(msgspec.Struct, array_like=True, gc=False):
    """The value to send, and the timestamp of the call it came from."""

    value: str | float | None
    timestamp: int


class IdentityState(msgspec.Struct, array_like=True, gc=False):
    """What a profile knows of its identifiers; see app.domain.linking.

    `aliases`: all identifiers of the person, its own included, as profile ids with the received time of the first call
    that named them. `links`: chains of identifiers that are still to be linked; `asking`: one has been asked for, and
    has not answered. `inherited`: audiences that a profile which has ended here was a member of, while that has not
    been looked at yet (`Inherited`).
    """

    aliases: dict[str, int] = {}
    links: list[list[str]] = []
    asking: bool = False
    inherited: list[str] = []


class Inherited(NamedTuple):
    """A membership that was a profile's before it ended here, with the sequence that it ended with. Not a `member`: it
    had left, and a destination that hears of no exits has it still. Older states have members alone, and do not say whose.
    """

    audience: str
    sequence: int = 0
    profile: str | None = None
    member: bool = True

    @classmethod
    def read(cls, written: str) -> Inherited:
        """The inverse of `written`."""
        audience, _, rest = written.partition(" ")
        sequence, _, profile = rest.partition(" ")
        if not rest:
            return cls(audience)
        return cls(audience, int(sequence.lstrip(_LEFT)), profile, not sequence.startswith(_LEFT))

    def written(self) -> str:
        """As states have it."""
        if self.profile is None:
            return self.audience
        return f"{self.audience} {'' if self.member else _LEFT}{self.sequence} {self.profile}"


class PersonState(msgspec.Struct):
    """`further` are the values of identifiers that a person may have several of, other than the current one.
    `identity`: None while no second identifier is known. `owner`: the profile that this one has become part of; nothing
    else is known of such a profile, and it is not packed.
    """

    identifiers: dict[str, IdentifierState] = {}
    further: dict[str, list[str | float]] = {}
    identity: IdentityState | None = None
    owner: str | None = None

    @property
    def is_eligible(self) -> bool:
        """Whether it has an e-mail address or a mobile advertising id."""
        return _EMAIL in self.identifiers or _MADID in self.identifiers


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def pack(person: PersonState) -> bytes:
    """Empty when nothing is known."""
    identifiers, further, identity = person.identifiers, person.further, person.identity
    if not identifiers and not further and identity is None:
        return b""
    base = 0
    columns: list[Any] = []
    for column, item in identifiers.items():
        value, timestamp = item.value, item.timestamp
        # The first time stands for itself, all others as how much later they are.
        short = (raw_of(value) or value) if isinstance(value, str) else value
        columns += (_PLACES.get(column, column), short, timestamp - base)
        base = base or timestamp
    aliases: list[Any] = []
    waiting: tuple[Any, ...] = ()
    if identity is not None:
        same = {
            prefix + str(known.value): _PLACES[column]
            for column, prefix in _SAME_AS
            if (known := identifiers.get(column)) is not None
        }
        for alias, since in identity.aliases.items():
            place = same.get(alias)
            aliases += (compact(alias) if place is None else place, since - base)
            base = base or since
        if identity.links or identity.asking or identity.inherited:
            waiting = (identity.links, identity.asking, identity.inherited)
    parts: list[Any] = [columns, None if identity is None else aliases]
    if further or waiting:
        several = {
            _PLACES.get(column, column): [_short(value) for value in values]
            for column, values in further.items()
        }
        parts += (several, *waiting)
    return (b"\x01" if person.is_eligible else b"\x00") + _encode(parts)


def unpack(packed: bytes) -> PersonState:
    """The inverse of `pack`; raises an exception that `UNREADABLE` names for bytes that it has not made."""
    if not packed:
        return PersonState()
    columns, aliases, *more = _decode(memoryview(packed)[1:])
    base, identifiers = 0, {}
    parts = iter(columns)
    for column, value, later in zip(parts, parts, parts, strict=True):
        timestamp = base + later
        base = base or timestamp
        identifiers[_column(column)] = IdentifierState(
            text_of(value) if isinstance(value, bytes) else value, timestamp
        )
    person = PersonState(identifiers)
    if aliases is not None:
        identity = person.identity = IdentityState({}, *more[1:])
        for written in identity.inherited:
            Inherited.read(written)
        parts = iter(aliases)
        for alias, later in zip(parts, parts, strict=True):
            since = base + later
            base = base or since
            if isinstance(alias, int):
                name = _PREFIXES[alias] + str(identifiers[_COLUMNS[alias]].value)
            else:
                name = restored(alias)
            identity.aliases[name] = since
    for column, values in (more[0] if more else {}).items():
        person.further[_column(column)] = [_long(value) for value in values]
    return person


# What `unpack` raises for bytes that are no packed person.
UNREADABLE: Final = (msgspec.DecodeError, ValueError, TypeError, LookupError, AttributeError)


def is_eligible(person: bytes | PersonState) -> bool:
    """Whether the person, packed or not, has an e-mail address or a mobile advertising id."""
    if isinstance(person, PersonState):
        return person.is_eligible
    return person != b"" and person[0] == _ELIGIBLE


def _column(written: int | str) -> str:
    return _COLUMNS[written] if isinstance(written, int) else written


def _short(value: str | float | None) -> str | float | bytes | None:
    return (raw_of(value) or value) if isinstance(value, str) else value


def _long(value: Any) -> Any:
    return text_of(value) if isinstance(value, bytes) else value
