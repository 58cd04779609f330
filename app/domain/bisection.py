"""Bisection: finding the rows for which Facebook refuses, or cannot answer, a whole request, so that the others arrive.

A refused request is halved again and again; what is refused when it is a single row, while others of the request were
taken, is refused for what it holds. A request that is wrong as a whole looks different: nothing of it is ever taken.

What gets no proper answer is halved, too, but proves less: Facebook may be out of order for a while. A single row that
fails is a suspect, and is given up when it has failed `STRIKES` times and between any two of them something else of the
same request was taken. Where nothing else is left to send, a row that was taken is sent once more: the control.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.domain.users_requests import UsersRequest

if TYPE_CHECKING:
    from app.domain.delivery import Refusal

# Refusals of one request's parts after which none is halved any more: as long as nothing has been taken, which is
# enough to get to a single row of 10,000, and in all.
MOST_AT_FIRST: Final = 20
MOST: Final = 200
# Failures of a single row after which it is given up.
STRIKES: Final = 3
# Single rows that fail, while nothing of the request is taken, before it is no question of rows any more.
MOST_ALIKE: Final = 20


@dataclass(slots=True)
class _Suspect:
    """A single row that failed; `cleared`: something else has been taken since, so that it may be tried again."""

    part: UsersRequest
    strikes: int = 1
    cleared: bool = False


@dataclass(slots=True)
class Bisection:
    """The parts of one request that are still to be sent, in order, and what became of the others."""

    request: UsersRequest
    refused: list[tuple[UsersRequest, Refusal]] = field(default_factory=list)
    _waiting: list[UsersRequest] = field(default_factory=list)
    _suspects: list[_Suspect] = field(default_factory=list)
    # One row of what was taken last.
    _control: UsersRequest | None = None
    _refusals: int = 0
    _halvings: int = 0

    def __post_init__(self) -> None:
        self._waiting.append(self.request)

    @property
    def accepted(self) -> bool:
        """Whether something of the request was taken."""
        return self._control is not None

    @property
    def part(self) -> UsersRequest | None:
        """What to send next."""
        if self._waiting:
            return self._waiting[0]
        if not self._suspects:
            return None
        return self._control if self.is_control else self._suspects[0].part

    @property
    def is_control(self) -> bool:
        """Whether what is sent next has been taken before."""
        return self.accepted and not self._waiting and bool(self._suspects) and not self._suspects[0].cleared

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the request has been refused yet."""
        return not self._refusals

    @property
    def is_begun(self) -> bool:
        """Whether it is known by now that not all of the request fares alike, or is about to be found out."""
        return self.accepted or bool(self._refusals) or bool(self._halvings)

    @property
    def fails_alike(self) -> bool:
        """Whether so much has failed, and nothing been taken, that it is not for the rows."""
        return not self.accepted and (len(self._suspects) >= MOST_ALIKE or not self._waiting)

    def accept(self) -> None:
        """The part has been taken."""
        if not self.is_control:
            self._control = _slice(self._pop().part, 0, 1)
        for suspect in self._suspects:
            suspect.cleared = True

    def refuse(self, refusal: Refusal) -> None:
        """The part, which is not the control, has been refused for good."""
        part = self._pop().part
        self._refusals += 1
        if len(part.data) > 1 and self._refusals < (MOST if self.accepted else MOST_AT_FIRST):
            self._waiting[:0] = _halves(part)
        else:
            self.refused.append((part, refusal))

    def fail(self, *, halve: bool) -> int:
        """The part got no proper answer. `halve`: it has often enough to be tried in halves; which it is at once where
        others were, and something was taken.

        Returns how often the part, a single row, has failed; 0: it is not given up, and whatever is next may be tried.
        """
        is_known = self.accepted and bool(self._halvings or self._suspects)
        if self.is_control or not (halve or is_known):
            return 0
        suspect = self._pop()
        part = suspect.part
        if len(part.data) > 1:
            self._halvings += 1
            # Behind the next one: where one half fails, the other one is tried before halves of the half.
            self._waiting[1:1] = _halves(part)
            return 0
        if self.accepted and suspect.strikes >= STRIKES:
            return suspect.strikes
        self._suspects.append(suspect)
        return 0

    def leave_out(self, offsets: Container[int]) -> None:
        """Nothing of these deltas is to be sent any more."""
        left = [_without(part, offsets) for part in self._waiting]
        self._waiting = [part for part in left if part.data]
        self._suspects = [each for each in self._suspects if each.part.sources[0].offset not in offsets]

    def _pop(self) -> _Suspect:
        """The part, and how often it has failed alone, should it fail now."""
        if self._waiting:
            return _Suspect(self._waiting.pop(0))
        suspect = self._suspects.pop(0)
        return _Suspect(suspect.part, suspect.strikes + 1)


def _halves(part: UsersRequest) -> Sequence[UsersRequest]:
    middle = len(part.data) // 2
    return _slice(part, 0, middle), _slice(part, middle, len(part.data))


def _slice(request: UsersRequest, start: int, end: int) -> UsersRequest:
    return _rows(request, range(start, end))


def _without(request: UsersRequest, offsets: Container[int]) -> UsersRequest:
    places = [place for place, source in enumerate(request.sources) if source.offset not in offsets]
    return request if len(places) == len(request.data) else _rows(request, places)


def _rows(request: UsersRequest, places: Sequence[int]) -> UsersRequest:
    return UsersRequest(
        request.remove,
        request.schema,
        [request.data[place] for place in places],
        [request.sources[place] for place in places],
        {name: [values[place] for place in places] for name, values in request.beside.items()},
    )
