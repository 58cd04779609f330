"""Dead letters of delivery: one per row that Facebook refused, holding nothing but what was sent and its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from app.domain.delivery import Refusal, words
from app.domain.users_requests import RowSource, UsersRequest
from schemas.dead_letter import DeadLetter, FacebookRefusal, Origin, Reason, dead_letter_id
from topics.partitioning import membership_key


@dataclass(frozen=True, slots=True)
class LetterContext:
    """What all letters of one request have in common; `at` in epoch milliseconds."""

    topic: str
    partition: int
    destination: str
    attempts: int
    at: int


def rejected_row(
    context: LetterContext, request: UsersRequest, place: int, why: str, trace: str | None
) -> DeadLetter:
    """The request worked, this row of it was refused."""
    facebook = FacebookRefusal(message=why, trace=trace)
    return _letter(context, request, place, Reason.REJECTED_ROW, f"Facebook refused the row: {why}", facebook)


def rejected_request(context: LetterContext, request: UsersRequest, refusal: Refusal) -> Iterator[DeadLetter]:
    """The whole request was refused for good: a letter for each of its rows, made one at a time."""
    return _rejected(context, request, refusal, Reason.REJECTED_REQUEST)


def rejected_alone(context: LetterContext, request: UsersRequest, refusal: Refusal) -> Iterator[DeadLetter]:
    """A request of one row was refused for good, while rows that were sent together with it before were taken."""
    return _rejected(context, request, refusal, Reason.REJECTED_ROW)


def failed_alone(
    context: LetterContext, request: UsersRequest, why: str, refusal: Refusal | None
) -> DeadLetter:
    """A request of one row got no proper answer again and again, while rows of the same request were taken in between.

    `why` is what was said of it last; `refusal` None: there was no answer.
    """
    facebook = FacebookRefusal(message=why) if refusal is None else _words_of(refusal)
    return _letter(
        context, request, 0, Reason.REJECTED_ROW, f"other rows were taken, not this one: {why}", facebook
    )


def _words_of(refusal: Refusal) -> FacebookRefusal:
    return FacebookRefusal(
        code=refusal.code, subcode=refusal.subcode, message=refusal.message, trace=refusal.trace
    )


def _rejected(
    context: LetterContext, request: UsersRequest, refusal: Refusal, why: Reason
) -> Iterator[DeadLetter]:
    facebook = _words_of(refusal)
    for place in range(len(request.data)):
        yield _letter(context, request, place, why, words(refusal), facebook)


def _letter(
    context: LetterContext,
    request: UsersRequest,
    place: int,
    reason: Reason,
    detail: str,
    facebook: FacebookRefusal,
) -> DeadLetter:
    source: RowSource = request.sources[place]
    delta = source.delta
    offset, sequence, attempts, first = source.offset, delta.sequence, context.attempts, context.at
    if delta.repeats is not msgspec.UNSET:
        # The letter of the first time, once more.
        offset, sequence = delta.repeats.offset, delta.repeats.sequence
        before, first = delta.repeats.failures.get(context.destination, (0, context.at))
        attempts += before
    origin = Origin(
        topic=context.topic,
        partition=context.partition,
        offset=offset,
        key=membership_key(delta.audience, delta.profile).decode(),
    )
    return DeadLetter(
        # The destination stands for the audience: one delta may be refused by several ad accounts.
        id=dead_letter_id("deliver", origin, source.index, context.destination, delta.profile, sequence),
        stage="deliver",
        reason=reason,
        detail=detail,
        origin=origin,
        facebook=facebook,
        audience=delta.audience,
        destination=context.destination,
        profile=delta.profile,
        sequence=sequence,
        attempts=attempts,
        first_failed_at=first,
        last_failed_at=context.at,
        record={"change": delta.change.value, "row": request.row(place)},
    )
