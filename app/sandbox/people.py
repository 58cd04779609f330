"""The people in one audience: who is the same person as whom, and who is found again for removal.

Two rows are about the same person when they agree on the first of EXTERN_ID, EMAIL, PHONE, MADID that both
hold. So a household's shared e-mail does not merge two people who have ids of their own, and a person first
known by e-mail alone is not doubled when the id arrives. Whatever was stored for a person once keeps
finding that person, also after a later row has brought another value.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

EXTERN_ID = "EXTERN_ID"
PERSON_KEYS = (EXTERN_ID, "EMAIL", "PHONE", "MADID")
EXTERN_ID_LIFE_SECONDS = 90 * 24 * 3600
"""The API keeps an external id's mapping for 90 days after it was last sent."""

_SINGLE_KEY_NAMES = {"EMAIL_SHA256": "EMAIL", "PHONE_SHA256": "PHONE", "MOBILE_ADVERTISER_ID": "MADID"}
_WHOLE_ROW = "row"
IDENTIFIER_KEYS = (*PERSON_KEYS, _WHOLE_ROW)
_CHECKSUMS = 2**32

Cells = dict[str, Any]


@dataclass(slots=True)
class Person:
    """`cells` are shown as they were sent, the latest value of each; `former` are identifiers they once had."""

    cells: Cells
    former: dict[str, list[str]]
    extern_id_at: float
    matched: bool

    def has(self, key: str, value: str) -> bool:
        return self.cells.get(key) == value or value in self.former.get(key, ())

    def identifiers(self) -> Iterator[tuple[str, str]]:
        """All that ever named this person."""
        yield from identifiers_of(self.cells).items()
        for key, values in self.former.items():
            for value in values:
                yield key, value


class _Index:
    """Value of one identifier → numbers of the people who have it; nearly always one."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, int | set[int]] = {}

    def add(self, value: str, number: int) -> None:
        held = self._numbers.get(value)
        if held is None:
            self._numbers[value] = number
        elif isinstance(held, set):
            held.add(number)
        elif held != number:
            self._numbers[value] = {held, number}

    def discard(self, value: str, number: int) -> None:
        held = self._numbers.get(value)
        if isinstance(held, set):
            held.discard(number)
            if not held:
                del self._numbers[value]
        elif held == number:
            del self._numbers[value]

    def find(self, value: str) -> Sequence[int]:
        held = self._numbers.get(value)
        if held is None:
            return ()
        return sorted(held) if isinstance(held, set) else (held,)


class People:
    """Adds, updates, removes and finds people by dictionary look-ups: its cost does not grow with the audience."""

    def __init__(self, match_share: float = 1.0, people: Iterable[Person] = ()) -> None:
        self._match_share = match_share
        self._people: dict[int, Person] = {}
        self._next_number = 0
        self.matched = 0
        # People with and without an external id apart: a row that has one never needs to look through everybody
        # else who shares its e-mail.
        self._named: dict[str, _Index] = {key: _Index() for key in IDENTIFIER_KEYS}
        self._unnamed: dict[str, _Index] = {key: _Index() for key in IDENTIFIER_KEYS}
        for person in people:
            self._insert(person, person.identifiers())

    def __len__(self) -> int:
        return len(self._people)

    def __iter__(self) -> Iterator[Person]:
        return iter(self._people.values())

    def add(self, cells: Cells, now: float) -> None:
        """Store a row's non-empty cells; a person already known is updated."""
        identifiers = identifiers_of(cells)
        found = self._matching(identifiers)
        if found:
            self._update(found[0], cells, identifiers, now)
        else:
            self._insert(Person(cells, {}, now, self._is_matched(identifiers)), identifiers.items())

    def remove(self, cells: Mapping[str, Any], now: float) -> None:
        """Remove whoever the row's identifiers belong to; nobody is no error, and other cells name nobody."""
        for number in self._found(cells, now):
            self._delete(number)

    def removed_by(self, rows: Iterable[Mapping[str, Any]], now: float) -> int:
        """How many people would go if all these rows were removed."""
        return len({number for cells in rows for number in self._found(cells, now)})

    def _found(self, cells: Mapping[str, Any], now: float) -> list[int]:
        identifiers = identifiers_of(cells)
        if _WHOLE_ROW in identifiers:
            return []
        return [
            number
            for number in self._matching(identifiers)
            if _can_be_found(self._people[number], identifiers, now)
        ]

    def _matching(self, identifiers: Mapping[str, str]) -> list[int]:
        """Numbers of the people who agree with the row on the first identifier both hold, likeliest first."""
        found: list[int] = []
        named = EXTERN_ID in identifiers
        for key, value in identifiers.items():
            if key == EXTERN_ID:
                numbers = self._named[key].find(value)
            elif named:
                numbers = self._unnamed[key].find(value)
            else:
                numbers = [*self._named[key].find(value), *self._unnamed[key].find(value)]
            for number in numbers:
                if number not in found and _agree(identifiers, self._people[number]):
                    found.append(number)
        return found

    def _is_matched(self, identifiers: Mapping[str, str]) -> bool:
        if self._match_share >= 1.0:
            return True
        leading = next(iter(identifiers.values()))
        return zlib.crc32(leading.encode()) < self._match_share * _CHECKSUMS

    def _insert(self, person: Person, identifiers: Iterable[tuple[str, str]]) -> None:
        number = self._next_number
        self._next_number += 1
        self._people[number] = person
        self.matched += person.matched
        self._enter(number, person, identifiers)

    def _update(self, number: int, cells: Cells, identifiers: Mapping[str, str], now: float) -> None:
        person = self._people[number]
        if EXTERN_ID in identifiers:
            person.extern_id_at = now
        changed = [key for key, value in identifiers.items() if person.cells.get(key) != value]
        if not changed:
            person.cells.update(cells)
            return
        self._leave(number, person)
        for key in changed:
            if key in person.cells:
                person.former.setdefault(key, []).append(person.cells[key])
        person.cells.update(cells)
        self._enter(number, person, person.identifiers())

    def _delete(self, number: int) -> None:
        person = self._people.pop(number)
        self.matched -= person.matched
        self._leave(number, person)

    def _enter(self, number: int, person: Person, identifiers: Iterable[tuple[str, str]]) -> None:
        indexes = self._named if EXTERN_ID in person.cells else self._unnamed
        for key, value in identifiers:
            indexes[key].add(value, number)

    def _leave(self, number: int, person: Person) -> None:
        indexes = self._named if EXTERN_ID in person.cells else self._unnamed
        for key, value in person.identifiers():
            indexes[key].discard(value, number)


def identifiers_of(cells: Mapping[str, Any]) -> dict[str, str]:
    """What names a person, strongest first; a row without any is recognised by all its cells together."""
    found: dict[str, str] = {key: cells[key] for key in PERSON_KEYS if key in cells}
    if found:
        return found
    for key, value in cells.items():
        if key in _SINGLE_KEY_NAMES:
            return {_SINGLE_KEY_NAMES[key]: value}
    return {_WHOLE_ROW: json.dumps(cells, sort_keys=True)}


def _agree(row: Mapping[str, str], person: Person) -> bool:
    stored = identifiers_of(person.cells)
    for key, value in row.items():
        if key in stored:
            return stored[key] == value or value in person.former.get(key, ())
    return False


def _can_be_found(person: Person, row: Mapping[str, str], now: float) -> bool:
    """Not by an external id alone whose mapping has run out."""
    if EXTERN_ID not in row or now - person.extern_id_at < EXTERN_ID_LIFE_SECONDS:
        return True
    return any(person.has(key, value) for key, value in row.items() if key != EXTERN_ID)
