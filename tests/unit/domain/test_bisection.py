from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.bisection import MOST, MOST_ALIKE, MOST_AT_FIRST, STRIKES, Bisection
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


# -- parts that get no proper answer ---------------------------------------------------------------------------


def delivered(parts: Bisection, poison: set[int], most: int = 10_000) -> tuple[list[int], list[int], int]:
    """Rows taken, rows given up and failures, where Facebook has no answer to some rows and to more than `most`."""
    taken: list[int] = []
    given_up: list[int] = []
    failures = 0
    while (part := parts.part) is not None:
        numbers, again = numbers_of(part), parts.is_control
        if len(numbers) <= most and poison.isdisjoint(numbers):
            taken += [] if again else numbers
            parts.accept()
            continue
        failures += 1
        if parts.fail(halve=True):
            given_up += numbers
        elif parts.fails_alike:
            break
    return taken, given_up, failures


@given(st.integers(2, 3_000), st.data())
def test_rows_without_an_answer_are_given_up_and_all_others_taken_once(
    rows: int, data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=min(8, rows - 1)))
    taken, given_up, failures = delivered(Bisection(request_of(rows)), poison)
    assert sorted(taken) == sorted(set(range(rows)) - poison)
    assert sorted(given_up) == sorted(poison)
    assert failures <= 1 + len(poison) * (STRIKES + 2 * rows.bit_length())


@given(st.integers(2, 3_000), st.integers(1, 3_000))
def test_what_is_too_much_arrives_in_parts_and_nobody_is_given_up(rows: int, most: int) -> None:
    taken, given_up, _ = delivered(Bisection(request_of(rows)), set(), most)
    assert (sorted(taken), given_up) == (list(range(rows)), [])


@given(st.integers(1, 10_000), st.integers(0, 60))
def test_where_everything_fails_nobody_is_given_up_and_few_requests_are_left(rows: int, outage: int) -> None:
    parts = Bisection(request_of(rows))
    for _ in range(outage):
        assert not parts.fail(halve=True)
        if parts.fails_alike:
            parts = Bisection(request_of(rows))
    requests = 0
    taken: list[int] = []
    while (part := parts.part) is not None:
        taken += numbers_of(part)
        parts.accept()
        requests += 1
    assert sorted(taken) == list(range(rows))
    assert requests <= MOST_ALIKE + 4 * rows.bit_length()


def test_an_outage_in_the_middle_is_one_strike_however_long() -> None:
    parts = Bisection(request_of(4))
    parts.fail(halve=True)
    parts.accept()
    while not parts.is_control:
        assert not parts.fail(halve=True)
    for _ in range(50):
        assert (parts.is_control, parts.fail(halve=True)) == (True, 0)
    taken = []
    while (part := parts.part) is not None:
        taken += numbers_of(part)
        parts.accept()
    assert {2, 3} <= set(taken)


def test_what_has_changed_again_is_left_out_of_the_parts() -> None:
    parts = Bisection(request_of(9))
    parts.fail(halve=True)
    parts.leave_out({0, 4, 8})
    taken, _ = sent(parts, set())
    assert taken == [1, 2, 3, 5, 6, 7]
