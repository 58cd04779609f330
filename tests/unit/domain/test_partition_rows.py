"""What a partition sends: the rows of its deltas, and by whose word they are sent."""

from app.domain.fold import MAX_OF_ONE_KIND
from schemas.membership import Cause, Change
from schemas.profile import FeedHit
from tests.unit.domain.partition_engine import ORDERED, Engine, identify, rows, short
from tests.unit.domain.plans import DAY, FACEBOOK, HOUR, START

# --- what is sent ---


def test_a_new_identifier_of_a_member_is_an_update_with_everything_ever_sent() -> None:
    engine = Engine()
    identify(engine, START, EMAIL="e1", FN="ann")
    engine.order(START + 1)
    identify(engine, START + 2, EMAIL="e2", CT="lyon")
    identify(engine, START + 3, EMAIL="e2", CT="lyon")
    engine.marker(START + 31 * DAY)
    entered, updated, exited = engine.deltas()
    assert rows(entered) == [{"EXTERN_ID": "user_1", "EMAIL": "e1", "FN": "ann"}]
    assert (updated.change, updated.sequence, updated.at) == (Change.UPDATED, 2, START + 2)
    both = [
        {"EXTERN_ID": "user_1", "EMAIL": "e2", "FN": "ann", "CT": "lyon"},
        {"EXTERN_ID": "user_1", "EMAIL": "e1"},
    ]
    assert rows(updated) == both
    assert (exited.change, exited.sequence, rows(exited)) == (Change.EXITED, 3, both)


def test_entering_by_the_call_that_brings_the_identifier_is_one_delta() -> None:
    engine = Engine({"when": {"trait": "plan", "equals": "x"}, "facebook": FACEBOOK})
    engine.call(START, traits={"plan": "x"}, identifiers={"EMAIL": "e"})
    (delta,) = engine.deltas()
    assert (delta.change, rows(delta)) == (Change.ENTERED, [{"EXTERN_ID": "user_1", "EMAIL": "e"}])


def test_a_member_without_identifier_is_counted_and_delivered_when_one_arrives() -> None:
    engine = Engine({**ORDERED, "include_anonymous": True})
    device = "anonymous_id:a1"
    engine.order(START, device)
    identify(engine, START + 1, device, FN="ann")
    identify(engine, START + 2, device, PHONE="p")
    entered, updated = engine.deltas()
    assert (entered.change, rows(entered)) == (Change.ENTERED, [])
    assert (updated.change, rows(updated)) == (Change.UPDATED, [{"PHONE": "p", "FN": "ann"}])
    assert engine.counters.stages["evaluate"].dropped == {"no_identifier": 1}


def test_an_audience_without_destination_is_computed_and_never_updated() -> None:
    engine = Engine({**ORDERED, "facebook": []})
    engine.order(START)
    identify(engine, START + 1, EMAIL="e")
    (delta,) = engine.deltas()
    assert delta.rows == {}
    assert engine.counters.stages["evaluate"].dropped == {}


def test_several_destinations_have_the_rows_each() -> None:
    accounts = [{"ad_account_id": "act_1"}, {"ad_account_id": "act_2"}]
    engine = Engine({**ORDERED, "facebook": accounts})
    engine.order(START)
    (delta,) = engine.deltas()
    row = [{"EXTERN_ID": "user_1"}]
    assert delta.rows == {"audience_0@act_1": row, "audience_0@act_2": row}


def test_older_identifiers_are_bounded() -> None:
    engine = Engine()
    for number in range(MAX_OF_ONE_KIND + 2):
        identify(engine, START + number, EMAIL=f"e{number}")
    engine.order(START + HOUR)
    (delta,) = engine.deltas()
    assert [row["EMAIL"] for row in rows(delta)] == ["e4", "e0", "e1", "e2", "e3"]


DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"


def test_a_device_that_may_be_anything_is_not_sent() -> None:
    """An advertising id goes in the clear: what has another form may be a phone number or a name."""
    engine = Engine()
    for number, device in enumerate(("6505551212", DEVICE, "john-smith")):
        identify(engine, START + number, MADID=device)
    engine.order(START + HOUR)
    (delta,) = engine.deltas()
    assert rows(delta) == [{"EXTERN_ID": "user_1"}, {"EXTERN_ID": "user_1", "MADID": DEVICE}]


def test_a_profile_that_becomes_eligible_enters_with_its_past() -> None:
    engine = Engine()
    device = "anonymous_id:a1"
    engine.order(START, device)
    assert engine.deltas() == []
    identify(engine, START + DAY, device, MADID=DEVICE)
    (delta,) = engine.deltas()
    assert (delta.at, rows(delta)) == (START + DAY, [{"MADID": DEVICE}])
    engine.marker(START + 40 * DAY)
    assert short(engine.deltas()) == [(device, "exited", START + 30 * DAY)]


# --- claims ---


def test_claims_decide_for_an_engage_audience_the_newest_first() -> None:
    engine = Engine({"key": "vips", "source": "engage", "require": {"trait": "consent", "equals": True}})
    engine.call(START, claims={"vips": True})
    assert engine.deltas() == [], "require must hold as well"
    engine.call(START + 1, traits={"consent": True})
    engine.call(START + 2, claims={"vips": False}, timestamp=START - 1)
    engine.call(START + 3, claims={"vips": True})
    engine.call(START + 4, claims={"vips": False})
    deltas = engine.deltas()
    assert short(deltas) == [("user_1", "entered", START + 1), ("user_1", "exited", START + 4)]
    assert [delta.cause for delta in deltas] == [Cause.EVENT, Cause.CLAIM]


def test_a_call_by_other_definitions_does_no_harm() -> None:
    engine = Engine()
    engine.call(
        START,
        hits=[FeedHit("gone", [1])],
        traits={"gone": 1},
        claims={"gone": True, "audience_0": True},
        message_id="m",
    )
    assert engine.deltas() == []
    engine.order(START + 1)
    assert len(engine.deltas()) == 1


# --- memory ---


def test_several_emails_and_phones_of_one_call_are_one_row_each() -> None:
    engine = Engine()
    identify(engine, START, EMAIL=["e1", "e2"], PHONE=["p1", "p2"], FN="ann")
    engine.order(START + 1)
    identify(engine, START + 2, EMAIL=["e2", "e1"])
    identify(engine, START + 3, EMAIL=["e3"])
    entered, updated = engine.deltas()
    assert rows(entered) == [
        {"EXTERN_ID": "user_1", "EMAIL": "e2", "PHONE": "p2", "FN": "ann"},
        {"EXTERN_ID": "user_1", "EMAIL": "e1"},
        {"EXTERN_ID": "user_1", "PHONE": "p1"},
    ]
    assert updated.change is Change.UPDATED
    assert sorted(row.get("EMAIL", "") for row in rows(updated)) == ["", "e1", "e2", "e3"]
