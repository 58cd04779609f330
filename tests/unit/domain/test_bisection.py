from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.bisection import MOST, MOST_AT_FIRST, Bisection
from app.domain.delivery import Refusal
from app.domain.users_requests import RowSource, UsersRequest
from schemas.membership import Cause, Change, MembershipDelta

NO = Refusal(code=100, subcode=None, message="no", is_transient=False)


def request_of(rows: int) -> UsersRequest:
    sources = [
        RowSource(number, MembershipDelta("a", f"u{number}", Change.ENTERED, 1, {}, 0, 0, Cause.EVENT), 0)
        for number in range(rows)
    ]
    return UsersRequest(False, ("EXTERN_ID",), [[f"u{number}"] for number in range(rows)], sources)


def numbers_of(part: UsersRequest) -> list[int]:
    assert [row[0] for row in part.data] == [f"u{source.offset}" for source in part.sources]
    assert (part.remove, part.schema) == (False, ("EXTERN_ID",))
    return [source.offset for source in part.sources]


def sent(parts: Bisection, poison: set[int]) -> tuple[list[int], int]:
    """The rows that a Facebook which cannot stand some of them has taken, and how many requests that took."""
    taken: list[int] = []
    requests = 0
    while (part := parts.part) is not None:
        requests += 1
        if poison.isdisjoint(numbers_of(part)):
            taken += numbers_of(part)
            parts.accept()
        else:
            parts.refuse(NO)
    return taken, requests


@given(st.integers(2, 10_000), st.data())
def test_few_poison_rows_are_found_and_all_others_arrive_in_order(rows: int, data: st.DataObject) -> None:
    poison = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=min(5, rows - 1)))
    parts = Bisection(request_of(rows))
    taken, requests = sent(parts, poison)
    assert taken == [number for number in range(rows) if number not in poison]
    assert parts.accepted
    assert [numbers_of(part) for part, _ in parts.refused] == [[number] for number in sorted(poison)]
    assert requests <= 1 + len(poison) * 2 * rows.bit_length()


def test_a_request_that_is_wrong_as_a_whole_takes_few_requests() -> None:
    parts = Bisection(request_of(10_000))
    taken, requests = sent(parts, set(range(10_000)))
    assert (taken, parts.accepted) == ([], False)
    assert requests <= 2 * MOST_AT_FIRST
    assert sorted(number for part, _ in parts.refused for number in numbers_of(part)) == list(range(10_000))


def test_poison_everywhere_takes_a_bounded_number_of_requests_and_loses_no_row() -> None:
    poison = set(range(5_000, 10_000, 3))
    parts = Bisection(request_of(10_000))
    taken, requests = sent(parts, poison)
    assert set(range(5_000)) <= set(taken)
    assert requests <= 2 * MOST + (10_000).bit_length()
    refused = [number for part, _ in parts.refused for number in numbers_of(part)]
    assert sorted(taken + refused) == list(range(10_000))


def test_good_rows_behind_many_poisoned_ones_are_tried_once_each() -> None:
    taken, _ = sent(Bisection(request_of(10_000)), set(range(100)))
    assert set(range(5_000, 10_000)) <= set(taken)


def test_a_single_row_is_refused_at_once() -> None:
    parts = Bisection(request_of(1))
    assert parts.is_whole
    assert sent(parts, {0}) == ([], 1)
    assert not parts.is_whole
    assert not parts.accepted
    assert [refusal for _, refusal in parts.refused] == [NO]
