"""Mapped fields whose values change: what is sent again, and when."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.state import decode_state
from tests.unit.domain.plans import DAY, HOUR, START
from tests.unit.domain.shop_of_fields import Shop, digest

# --- computed traits ---


WORTH: dict[str, Any] = {"worth": {"event": "Bought", "sum": "price", "within": "10d"}}


def values(shop: Shop) -> list[tuple[str, Any]]:
    return [(change, rows[0]["LOOKALIKE_VALUE"]) for change, rows in shop.sent()]


def test_what_somebody_is_worth_is_sent_again_when_it_changes() -> None:
    shop = Shop({"value": {"trait": "worth"}}, WORTH, value_based=True)
    shop.buys(properties={"price": 5})
    shop.buys(START + DAY, properties={"price": 6.5})
    shop.buys(START + DAY, properties={"price": 0})
    assert values(shop) == [("entered", 5), ("updated", 11.5)]
    shop.wait_until(START + 30 * DAY)
    assert values(shop) == [("updated", 6.5), ("updated", 0)]


def test_every_row_of_a_value_based_audience_has_a_value() -> None:
    shop = Shop({"value": {"trait": "worth"}}, WORTH, value_based=True)
    shop.knows(email=["b@a.com", "c@a.com"])
    shop.buys(properties={"price": -3})
    ((_, rows),) = shop.sent()
    assert [row["LOOKALIKE_VALUE"] for row in rows] == [0, 0], "nobody is worth less than nothing"
    assert len({row["EMAIL"] for row in rows}) == 2


def test_what_somebody_is_worth_is_not_sent_to_other_audiences() -> None:
    """Facebook refuses the whole request for a column that its audience does not have."""
    shop = Shop({"value": {"trait": "worth"}, "city": {"const": "Lyon"}}, WORTH)
    shop.buys(properties={"price": 5})
    shop.buys(START + DAY, properties={"price": 7})
    assert shop.sent() == [("entered", [{"EXTERN_ID": "ann", "CT": digest("lyon")}])]


def test_nothing_is_sent_again_when_nothing_that_is_sent_has_changed() -> None:
    shop = Shop({"city": {"trait": "favourite"}}, {"favourite": {"event": "Bought", "last": "city"}})
    shop.buys(properties={"city": "Lyon"})
    shop.buys(START + 1, properties={"city": "LYON"})
    shop.buys(START + 2, properties={"city": "Nice"})
    assert [(change, row["CT"]) for change, (row,) in shop.sent()] == [
        ("entered", digest("lyon")),
        ("updated", digest("nice")),
    ]


def test_who_is_no_member_is_not_sent_again() -> None:
    shop = Shop({"city": {"trait": "favourite"}}, {"favourite": {"event": "Seen", "last": "city"}})
    shop.hears(event="Seen", properties={"city": "Lyon"})
    assert shop.sent() == []


def test_those_whose_default_fields_change_are_sent_again_too() -> None:
    shop = Shop({"city": "$.traits.town"})
    shop.buys()
    shop.knows(START + 1, email="b@a.com")
    assert shop.row() == {"EXTERN_ID": "ann", "EMAIL": digest("b@a.com")}


def test_who_goes_on_after_a_merge_is_sent_with_what_both_had() -> None:
    shop = Shop({"email": "$.traits.work", "value": {"trait": "worth"}}, WORTH, value_based=True)
    shop.hears(userId=None, anonymousId="a1", traits={"work": "b@a.com"})
    shop.buys(userId=None, anonymousId="a1", properties={"price": 2})
    shop.buys(properties={"price": 3})
    shop.deltas()
    shop.hears(START + HOUR, anonymousId="a1", traits={})
    newest = [delta for delta in shop.deltas() if delta.profile == "ann"][-1]
    assert newest.rows["a"] == [{"EXTERN_ID": "ann", "EMAIL": digest("b@a.com"), "LOOKALIKE_VALUE": 5}]


def test_all_addresses_of_both_are_sent_after_a_merge() -> None:
    shop = Shop({"email": "$.traits.work"})
    for number in (1, 2):
        shop.hears(START + number, userId=None, anonymousId="a1", traits={"work": f"{number}@a.com"})
    shop.knows(START + 3, work="3@a.com")
    shop.buys()
    shop.hears(START + HOUR, anonymousId="a1", traits={})
    (_, rows) = shop.sent()[-1]
    assert {row["EMAIL"] for row in rows} == {digest(f"{number}@a.com") for number in (1, 2, 3)}


# --- another mapping ---


def test_members_are_sent_again_by_another_mapping_and_what_is_mapped_no_more_is_forgotten() -> None:
    shop = Shop({"email": "$.traits.work"})
    shop.knows(email="home@a.com", work="work@a.com")
    shop.hears(userId="no buyer", traits={"work": "other@a.com"})
    shop.buys()
    assert shop.row()["EMAIL"] == digest("work@a.com")
    shop.define({"fields": {"gender": {"const": "f"}}})
    shop.wait_until(START + HOUR)
    assert shop.sent() == [
        ("updated", [{"EXTERN_ID": "ann", "EMAIL": digest("home@a.com"), "GEN": digest("f")}])
    ]
    for profile in (b"ann", b"no buyer"):
        assert [column for column in decode_state(shop.log[profile]).identifiers if "@" in column] == []
    shop.define({})
    shop.wait_until(START + 2 * HOUR)
    assert shop.sent() == [("updated", [{"EXTERN_ID": "ann", "EMAIL": digest("home@a.com")}])]
    shop.define({})
    shop.wait_until(START + 3 * HOUR)
    assert shop.sent() == []


# --- whatever happens ---


_STEPS = st.one_of(
    st.tuples(st.just("knows"), st.sampled_from(["Lyon", "Nice", "", None, ...])),
    st.tuples(st.just("buys"), st.sampled_from([0, 1, 2.5, -1, "x"])),
    st.tuples(st.just("waits"), st.sampled_from([1, 4, 11])),
    st.tuples(st.just("restarts"), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_STEPS, st.booleans()), min_size=3, max_size=25))
def test_what_was_sent_last_is_what_is_true_now(steps: list[tuple[tuple[str, Any], bool]]) -> None:
    """Against a few lines that know nothing of slots; and nothing is sent that has been sent before."""
    facebook = {
        "value_based": True,
        "fields": {"value": {"trait": "worth"}, "city": ["$.traits.town", {"const": "Rome"}]},
    }
    shop = Shop(facebook["fields"], WORTH, value_based=True)  # type: ignore[arg-type]
    now, town = START, None
    bought: list[tuple[int, Any]] = []
    sent: dict[str, Any] | None = None

    def compare() -> None:
        nonlocal sent
        for change, (row,) in shop.sent():
            assert change == ("entered" if sent is None else "updated")
            assert row != sent
            sent = row

    for (what, argument), drain in steps:
        now += HOUR
        if what == "knows" and argument is ...:
            shop.knows(now, other=1)
        elif what == "knows":
            town = argument
            shop.knows(now, town=argument)
        elif what == "buys":
            bought.append((now, argument))
            shop.buys(now, properties={"price": argument})
        elif what == "waits":
            now += argument * DAY
        else:
            compare()
            shop.define(facebook)
        if drain:
            compare()
    shop.wait_until(now)
    compare()
    worth = sum(price for at, price in bought if now < at + 10 * DAY and price != "x")
    expected = {"EXTERN_ID": "ann", "CT": digest((town or "Rome").lower()), "LOOKALIKE_VALUE": max(worth, 0)}
    assert sent == (expected if bought else None)
