"""Requests built from changes, and refused rows found again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.domain.bisection import Bisection
from app.domain.delivery import Refusal
from app.domain.replacing import Chunk
from app.domain.users_requests import UsersRequest, build_requests, refused_rows
from schemas.membership import Cause, Change, MembershipDelta

DEST = "vips"


def change(profile: str, *rows: dict[str, Any], kind: Change = Change.ENTERED) -> MembershipDelta:
    return MembershipDelta(DEST, profile, kind, 1, {DEST: list(rows)}, 0, 0, Cause.EVENT)


def built(*deltas: MembershipDelta, max_rows: int = 10_000) -> list[UsersRequest]:
    return list(build_requests(enumerate(deltas), DEST, max_rows))


def test_the_schema_is_the_union_of_the_rows_keys_in_facebook_s_order() -> None:
    (request,) = built(
        change("a", {"COUNTRY": "c", "EXTERN_ID": "a", "ZZ": "z"}),
        change("b", {"EXTERN_ID": "b", "MADID": "m", "AA": "a"}),
        change("c", {"EXTERN_ID": "c", "EMAIL": "e"}),
    )
    assert request.schema == ("EXTERN_ID", "EMAIL", "MADID", "COUNTRY", "AA", "ZZ")
    assert request.data == [
        ["a", "", "", "c", "", "z"],
        ["b", "", "m", "", "a", ""],
        ["c", "e", "", "", "", ""],
    ]
    assert request.row(2) == {"EXTERN_ID": "c", "EMAIL": "e"}


@pytest.mark.parametrize(
    ("rows", "schemas", "why"),
    [
        (
            [{"EXTERN_ID": "a"}, {"EMAIL": "e"}],
            [("EMAIL",), ("EXTERN_ID",)],
            "a blank EXTERN_ID is a refused row",
        ),
        (
            [{"EMAIL": "e", "LOOKALIKE_VALUE": 3.5}, {"EMAIL": "f"}],
            [("EMAIL",), ("EMAIL", "LOOKALIKE_VALUE")],
            "a blank value is a refused row",
        ),
        ([{"EXTERN_ID": "", "EMAIL": "e"}], [("EMAIL",)], "blank is absent"),
        ([{"EXTERN_ID": ""}, {}], [], "nothing to send"),
        ([{"LOOKALIKE_VALUE": 3.5}], [], "a value is nobody's"),
        ([{"EMAIL": "e", "LOOKALIKE_VALUE": 0.0}], [("EMAIL", "LOOKALIKE_VALUE")], "zero is a value"),
    ],
)
def test_rows_that_cannot_share_a_schema(
    rows: list[dict[str, Any]], schemas: list[tuple[str, ...]], why: str
) -> None:
    assert [request.schema for request in built(change("a", *rows))] == schemas


def test_removals_come_first_and_leave_values_out() -> None:
    requests = built(
        change("a", {"EMAIL": "e", "LOOKALIKE_VALUE": 3.5}),
        change("b", {"EMAIL": "f", "LOOKALIKE_VALUE": 1.0}, kind=Change.EXITED),
        change("c", {"EMAIL": "g", "LOOKALIKE_VALUE": 2.0}, kind=Change.UPDATED),
    )
    assert [(request.remove, request.schema, request.data) for request in requests] == [
        (True, ("EMAIL",), [["f"]]),
        (False, ("EMAIL", "LOOKALIKE_VALUE"), [["e", 3.5], ["g", 2.0]]),
    ]


def test_a_profile_with_several_rows_and_a_request_that_is_full() -> None:
    requests = built(change("a", *({"EMAIL": f"e{number}"} for number in range(5))), max_rows=2)
    assert [len(request.data) for request in requests] == [2, 2, 1]
    assert [(source.offset, source.index) for request in requests for source in request.sources] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 4),
    ]


@pytest.mark.parametrize("letter", ["u", "é", "山"])
def test_a_body_of_long_ids_has_at_most_16_mib(letter: str) -> None:
    deltas = [
        change(f"p{number}", {"EXTERN_ID": f"{number}" + letter * 3_000, "EMAIL": "e"})
        for number in range(10_000)
    ]
    requests = built(*deltas)
    assert [row for request in requests for row in request.data] == [
        list(delta.rows[DEST][0].values()) for delta in deltas
    ]
    assert max(len(orjson.dumps(request.data)) for request in requests) <= 16 * 1024 * 1024
    chunk = Chunk(DEST, 10_000, external_ids=True)
    for offset, delta in enumerate(deltas):
        if not chunk.add(offset, delta):
            break
    assert chunk.request is not None
    assert chunk.following == len(chunk.request.data)
    assert len(orjson.dumps(chunk.request.data)) <= 16 * 1024 * 1024


def test_other_destinations_rows_are_not_sent() -> None:
    delta = MembershipDelta(DEST, "a", Change.ENTERED, 1, {"other": [{"EMAIL": "e"}]}, 0, 0, Cause.EVENT)
    assert built(delta) == []


@pytest.mark.parametrize(
    ("invalid", "places", "why"),
    [
        ({'["a","e1"]': "r"}, [(0, "r"), (2, "r")], "all rows of that content, whoever sent them"),
        ({'[ "b", "e2" ]': "r"}, [(1, "r")], "however it is written"),
        ({'["\\u0062","e2"]': "r"}, [(1, "r")], "however it is escaped"),
        ({'["x","e2"]': "r"}, [], "not of this request"),
        ({"no json": "r", '{"a":1}': "r", '["b",["e2"]]': "r"}, [], "no row at all"),
        ({}, [], "nothing refused"),
    ],
)
def test_refused_rows_are_found_again(
    invalid: dict[str, str], places: list[tuple[int, str]], why: str
) -> None:
    (request,) = built(
        change("a", {"EXTERN_ID": "a", "EMAIL": "e1"}),
        change("b", {"EXTERN_ID": "b", "EMAIL": "e2"}),
        change("c", {"EXTERN_ID": "a", "EMAIL": "e1"}),
    )
    assert refused_rows(request, invalid) == places


def test_numbers_in_a_refused_row_are_compared_as_numbers() -> None:
    (request,) = built(change("a", {"EMAIL": "e", "LOOKALIKE_VALUE": 44.0}))
    assert refused_rows(request, {'["e",44]': "too much"}) == [(0, "too much")]


def test_ids_of_apps_are_lists_beside_the_rows_with_an_entry_for_each_row() -> None:
    (request,) = built(
        change("a", {"EXTERN_ID": "a", "APP_ID": "7"}),
        change("b", {"EXTERN_ID": "b"}),
        change("c", {"EXTERN_ID": "c", "APP_ID": "8", "IG_ACCOUNT_ID": "9"}),
        change("d", {"APP_ID": "7", "PAGE_ID": "1"}),
    )
    assert request.schema == ("EXTERN_ID",)
    assert request.data == [["a"], ["b"], ["c"]]
    assert request.beside == {"app_ids": ["7", "", "8"], "ig_account_ids": ["", "", "9"]}


def test_the_ids_of_apps_are_halved_with_their_rows() -> None:
    (request,) = built(*(change(name, {"EXTERN_ID": name, "APP_ID": name * 2}) for name in "123"))
    parts = Bisection(request)
    parts.refuse(Refusal(code=100))
    found = []
    while (part := parts.part) is not None:
        found.append((part.data, part.beside))
        parts.accept()
    assert found == [
        ([["1"]], {"app_ids": ["11"]}),
        ([["2"], ["3"]], {"app_ids": ["22", "33"]}),
    ]
