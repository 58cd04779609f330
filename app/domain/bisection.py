"""Bisection: finding the rows for which Facebook refuses a whole request, so that the others arrive.

A refused request is halved again and again; what is refused when it is a single row, while others of the request were
taken, is refused for what it holds. A request that is wrong as a whole looks different: nothing of it is ever taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.domain.users_requests import UsersRequest

if TYPE_CHECKING:
    from app.domain.delivery import Refusal

# Refusals of one request's parts after which none is halved any more: as long as nothing has been taken, which is
# enough to get to a single row of 10,000, and in all.
MOST_AT_FIRST: Final = 20
MOST: Final = 200


@dataclass(slots=True)
class Bisection:
    """The parts of one request that are still to be sent, in order, and what became of the others."""

    request: UsersRequest
    refused: list[tuple[UsersRequest, Refusal]] = field(default_factory=list)
    # Whether something of the request was taken.
    accepted: bool = False
    _waiting: list[UsersRequest] = field(default_factory=list)
    _refusals: int = 0

    def __post_init__(self) -> None:
        self._waiting.append(self.request)

    @property
    def part(self) -> UsersRequest | None:
        """What to send next."""
        return self._waiting[0] if self._waiting else None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the request has been tried yet."""
        return not self._refusals

    def accept(self) -> None:
        """The part has been taken."""
        self.accepted = True
        del self._waiting[0]

    def refuse(self, refusal: Refusal) -> None:
        """The part has been refused for good."""
        part = self._waiting.pop(0)
        self._refusals += 1
        if len(part.data) > 1 and self._refusals < (MOST if self.accepted else MOST_AT_FIRST):
            middle = len(part.data) // 2
            self._waiting[:0] = [_slice(part, 0, middle), _slice(part, middle, len(part.data))]
        else:
            self.refused.append((part, refusal))


def _slice(request: UsersRequest, start: int, end: int) -> UsersRequest:
    return UsersRequest(
        request.remove,
        request.schema,
        request.data[start:end],
        request.sources[start:end],
        {name: values[start:end] for name, values in request.beside.items()},
    )
