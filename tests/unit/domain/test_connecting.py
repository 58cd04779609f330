"""What `connect` and `resync --replace` publish, and what they refuse."""

from __future__ import annotations

import pytest

from app.adapters.memory import MemoryControl
from app.domain.connecting import one_destination, to_connect
from app.domain.definitions import Document, parse_definitions
from app.domain.pausing import desired_of, sent_again, to_pause, to_resync
from app.domain.published import Published, definitions_of, next_version
from app.errors import InvalidInputError
from schemas.control import Place

SET = """
audiences:
  - {name: One, when: {event: A}}
  - {name: Two, when: {event: B}, facebook: [{ad_account_id: act_1}, {ad_account_id: act_2}]}
  - {name: Taken, when: {event: C}, facebook: {audience_id: "77"}}
  - {name: Kept, when: {event: C}, facebook: {sync_mode: upsert}}
  - {name: Engaged, source: engage, facebook: {sync_mode: upsert}}
  - {name: Worth, when: {event: C}, facebook: {value_based: true, fields: {value: $.traits.worth}}}
traits:
  orders: {event: A, count: true}
"""


def control() -> MemoryControl:
    made = MemoryControl()
    definitions = parse_definitions([Document("audiences.yaml", SET)])
    made.publish(lambda published: next_version(published.newest, definitions, 0))
    return made


def ids(published: Published) -> dict[str, str | None]:
    assert published.newest is not None
    found = definitions_of(published.newest)
    assert [trait.key for trait in found.traits] == ["orders"], "nothing else is lost"
    return {one.id: one.audience_id for audience in found.audiences for one in audience.destinations}


def test_one_destination_is_connected_and_nothing_else_changes() -> None:
    made = control()
    before = ids(made.published)
    made.publish(lambda known: to_connect(known, "two@act_2", "12345", 8, 1))
    assert ids(made.published) == before | {"two@act_2": "12345"}
    assert made.published.newest is not None
    assert made.published.newest.number == 2
    made.publish(lambda known: to_connect(known, "two@act_2", "12345", 8, 1))
    assert made.published.newest.number == 2, "it is already"
    made.publish(lambda known: to_connect(known, "taken", "78", 8, 1))
    assert ids(made.published)["taken"] == "78"


@pytest.mark.parametrize(
    ("target", "facebook_id", "says"),
    [
        ("two", "1", "several destinations, name one: two@act_1, two@act_2"),
        ("nobody", "1", "no audience with the key nobody"),
        ("one", "77", "taken is connected to the Facebook audience 77 already"),
    ],
)
def test_what_cannot_be_connected_is_refused(target: str, facebook_id: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        to_connect(control().published, target, facebook_id, 8, 1)


def test_an_audience_with_one_destination_is_named_by_its_key() -> None:
    audience, destination = one_destination(control().published, "one")
    assert (audience.key, destination.id) == ("one", "one")


def test_a_wish_to_replace_stays_until_the_next_resync() -> None:
    made = control()
    made.publish(lambda known: to_resync(known, "one", 5, replace=True))
    made.publish(lambda known: to_pause(known, "one", None, 6))
    wanted = desired_of(made.published.desired, "one", "one")
    assert (wanted.resync_at, wanted.replace, wanted.paused is not None) == (5, True, True)
    made.publish(lambda known: to_resync(known, "one", 7))
    wanted = desired_of(made.published.desired, "one", "one")
    assert (wanted.resync_at, wanted.replace) == (7, False)


def test_of_two_wishes_the_later_one_says_whether_to_replace() -> None:
    made = control()
    made.publish(lambda known: to_resync(known, "two", 5, replace=True))
    made.publish(lambda known: to_resync(known, "two@act_1", 6))
    found = [desired_of(made.published.desired, "two", id_) for id_ in ("two@act_1", "two@act_2")]
    assert [(wanted.resync_at, wanted.replace) for wanted in found] == [(6, False), (5, True)]


def test_nobody_is_replaced_where_people_stay_who_are_no_members() -> None:
    with pytest.raises(InvalidInputError, match="kept has sync_mode upsert"):
        to_resync(control().published, "kept", 1, replace=True)
    assert to_resync(control().published, "kept", 1).resync_at == 1
    assert to_resync(control().published, "engaged", 1, replace=True).replace, "Engage's boolean decides"


def test_value_based_audiences_are_sent_the_ordinary_way() -> None:
    assert sent_again(control().published, "worth") == {"worth": "it is value-based"}
    assert sent_again(control().published, "two") == {}


def test_what_calls_of_engage_say_is_not_connected_for_good() -> None:
    made = control()
    newest = made.published.newest
    assert newest is not None
    placed = newest.model_copy(
        update={"number": 2, "placed": {"engaged": Place(ad_account_id="act_9", audience_id="900")}}
    )
    made.publish(lambda _: placed)
    assert ids(made.published)["engaged"] == "900"
    made.publish(lambda known: to_connect(known, "one", "12345", 8, 1))
    newest = made.published.newest
    assert newest is not None
    assert newest.definitions["engaged"] == placed.definitions["engaged"]
    assert ids(made.published) == ids(Published({2: placed})) | {"one": "12345"}
    made.publish(lambda known: to_connect(known, "engaged", "901", 8, 1))
    assert ids(made.published)["engaged"] == "901", "the definition goes before"
