"""Letters of delivery keep everything through their round trip, and are the same each time."""

from __future__ import annotations

import msgspec
import orjson

from app.domain.delivery import Refusal
from app.domain.delivery_letters import LetterContext, rejected_request, rejected_row
from app.domain.users_requests import build_requests
from schemas.dead_letter import DeadLetter, FacebookRefusal, Origin, Reason
from schemas.membership import Cause, Change, MembershipDelta, Repeated

CONTEXT = LetterContext("audience.memberships", 3, "vips@act_1", attempts=2, at=1_767_225_600_000)
DELTA = MembershipDelta(
    "vips", "ann", Change.EXITED, 7, {"vips@act_1": [{"EMAIL": "e1"}, {"EMAIL": "e2"}]}, 0, 0, Cause.TIME
)
(REQUEST,) = build_requests([(41, DELTA)], "vips@act_1")


def test_every_field_of_a_rejected_row_survives() -> None:
    letter = rejected_row(CONTEXT, REQUEST, 1, "empty external ID", "T1")
    read = DeadLetter.model_validate_json(orjson.dumps(letter.model_dump(mode="json")))
    assert read == letter
    assert read.model_dump(exclude={"id"}) == {
        "stage": "deliver",
        "reason": Reason.REJECTED_ROW,
        "detail": "Facebook refused the row: empty external ID",
        "origin": Origin(topic="audience.memberships", partition=3, offset=41, key="vips|ann").model_dump(),
        "facebook": FacebookRefusal(message="empty external ID", trace="T1").model_dump(),
        "audience": "vips",
        "destination": "vips@act_1",
        "profile": "ann",
        "sequence": 7,
        "attempts": 2,
        "first_failed_at": 1_767_225_600_000,
        "last_failed_at": 1_767_225_600_000,
        "record": {"change": "exited", "row": {"EMAIL": "e2"}},
        "resolved": None,
        "version": 1,
    }


def test_a_rejected_request_is_a_letter_per_row_with_facebook_s_words() -> None:
    refusal = Refusal(code=100, subcode=5, message="(#100) Invalid parameter", trace="T2")
    letters = list(rejected_request(CONTEXT, REQUEST, refusal))
    assert [letter.record for letter in letters] == [
        {"change": "exited", "row": {"EMAIL": "e1"}},
        {"change": "exited", "row": {"EMAIL": "e2"}},
    ]
    assert {letter.detail for letter in letters} == {"Facebook refused (100/5, trace T2): Invalid parameter"}
    assert {letter.reason for letter in letters} == {Reason.REJECTED_REQUEST}
    assert letters[0].facebook == FacebookRefusal(
        code=100, subcode=5, message="(#100) Invalid parameter", trace="T2"
    )


def test_a_letter_s_id_tells_row_and_destination_and_nothing_of_the_failure() -> None:
    def id_of(context: LetterContext, place: int, why: str) -> str:
        return rejected_row(context, REQUEST, place, why, None).id

    later = LetterContext("audience.memberships", 3, "vips@act_1", attempts=9, at=1)
    elsewhere = LetterContext("audience.memberships", 3, "vips@act_2", attempts=2, at=1)
    assert id_of(CONTEXT, 0, "x") == id_of(later, 0, "y")
    assert len({id_of(CONTEXT, 0, "x"), id_of(CONTEXT, 1, "x"), id_of(elsewhere, 0, "x")}) == 3


def test_a_delta_that_was_said_once_more_has_the_letter_of_the_first_time() -> None:
    first = rejected_row(CONTEXT, REQUEST, 1, "no", None)
    failures = {"vips@act_1": (first.attempts, first.first_failed_at)}
    again = msgspec.structs.replace(DELTA, sequence=8, repeats=Repeated(41, 7, failures))
    (request,) = build_requests([(99, again)], "vips@act_1")
    later = LetterContext("audience.memberships", 3, "vips@act_1", attempts=1, at=CONTEXT.at + 5)
    letter = rejected_row(later, request, 1, "still no", "T9")
    assert (letter.id, letter.origin, letter.sequence) == (first.id, first.origin, first.sequence)
    assert (letter.attempts, letter.first_failed_at, letter.last_failed_at) == (3, CONTEXT.at, CONTEXT.at + 5)


def test_a_destination_that_refuses_it_only_now_has_failed_once() -> None:
    again = msgspec.structs.replace(
        DELTA,
        sequence=8,
        rows={"vips@act_2": [{"EMAIL": "e1"}]},
        repeats=Repeated(41, 7, {"vips@act_1": (4, 5)}),
    )
    (request,) = build_requests([(99, again)], "vips@act_2")
    context = LetterContext("audience.memberships", 3, "vips@act_2", attempts=1, at=CONTEXT.at)
    letter = rejected_row(context, request, 0, "no", None)
    assert (letter.attempts, letter.first_failed_at) == (1, CONTEXT.at)
