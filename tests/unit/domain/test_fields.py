"""Mapped fields: what each destination is sent, from which calls, and when it is sent again.

What is expected is hashed here, by hand.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.instants import format_instant
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import decode_state
from app.errors import InvalidInputError
from schemas.membership import MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START, plan_of

BOUGHT = {"event": "Bought"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Shop:
    """One partition; an audience `a` of all who have bought anything."""

    def __init__(self, fields: dict[str, Any], traits: dict[str, Any] | None = None, **facebook: Any) -> None:
        self.traits = traits
        self.log: dict[bytes, bytes] = {}
        self.records: list[bytes] = []
        self.offset = 0
        self.define({"fields": fields, **facebook} if fields else {})
        self.wait_until(START)

    def define(self, facebook: dict[str, Any] | list[dict[str, Any]]) -> None:
        """From the next record on, after a restart."""
        audience = {"name": "a", "include_anonymous": True, "when": BOUGHT, "facebook": facebook}
        self.plan = plan_of(audience, traits=self.traits)
        self.resolver = Resolver(self.plan, ResolveOptions(default_country="DE"))
        self.partition = AudiencePartition(self.plan, 0, Counters())
        for key, value in self.log.items():
            self.partition.load(key, value)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])

    def wait_until(self, instant: int) -> None:
        event = ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress={"lane": instant})
        self.partition.apply_marker(event)

    def hears(self, at: int = START, **call: Any) -> None:
        self.offset += 1
        line = {
            "type": "identify" if "traits" in call else "track",
            "userId": "ann",
            "receivedAt": format_instant(at),
            "messageId": f"m{self.offset}",
            **call,
        }
        raw = json.dumps(line).encode()
        resolution = self.resolver.resolve(raw, None, FAR_WALL, "lane", self.offset)
        assert resolution.refused is None
        for profile, event in resolution.records:
            encoded = msgspec.msgpack.encode(event)
            self.records.append(encoded)
            self.partition.apply(profile, msgspec.msgpack.decode(encoded, type=ProfileEvent))

    def knows(self, at: int = START, **traits: Any) -> None:
        self.hears(at, traits=traits)

    def buys(self, at: int = START, **call: Any) -> None:
        self.hears(at, event="Bought", **call)

    def deltas(self) -> list[MembershipDelta]:
        outcome = self.partition.drain()
        self.log.update(outcome.states)
        return outcome.deltas

    def sent(self, destination: str = "a") -> list[tuple[str, list[dict[str, Any]]]]:
        return [(delta.change.value, delta.rows[destination]) for delta in self.deltas()]

    def row(self) -> dict[str, Any]:
        """Of the newest delta, which has one row."""
        (row,) = self.sent()[-1][1]
        return row


# What is mapped -> the traits of an identify call -> what is sent beside the user id.
MAPPINGS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "a path in place of the default",
        {"email": "$.traits.work_email"},
        {"email": "home@example.com", "work_email": " Work@Example.com"},
        {"EMAIL": digest("work@example.com")},
    ),
    (
        "no default behind a path that finds nothing",
        {"email": "$.traits.work_email"},
        {"email": "h@a.com"},
        {},
    ),
    (
        "the first that is not blank",
        {"city": ["$.traits.home.city", "$.traits.office.city", "$.traits.city"]},
        {"home": {"city": " "}, "office": {"city": "Lyon"}, "city": "Paris"},
        {"CT": digest("lyon")},
    ),
    ("a constant", {"gender": {"const": "Female"}}, {"gender": "m"}, {"GEN": digest("f")}),
    (
        "a constant where the call has nothing",
        {"gender": ["$.traits.sex", {"const": "f"}]},
        {"x": 1},
        {"GEN": digest("f")},
    ),
    ("a trait of identify calls", {"zip": {"trait": "plz"}}, {"plz": 10117}, {"ZIP": digest("10117")}),
    (
        "parts of a name beside what is found by default",
        {"name": {"first": "$.traits.vorname", "first_initial": "$.traits.vorname"}},
        {"vorname": "Ann", "first_name": "Other", "last_name": "Lee"},
        {"FN": digest("ann"), "FI": digest("a"), "LN": digest("lee")},
    ),
    (
        "a birthday in place of all three",
        {"birthday": "$.traits.born"},
        {"born": "1990-05-04", "birth_year": 1980},
        {"DOBY": digest("1990"), "DOBM": digest("05"), "DOBD": digest("04")},
    ),
    (
        "parts of a birth before a birthday",
        {"birth": {"year": "$.traits.year"}, "birthday": "$.traits.born"},
        {"born": "1990-05-04", "year": 1991},
        {"DOBY": digest("1991"), "DOBM": digest("05"), "DOBD": digest("04")},
    ),
    (
        "an object with the names of the parts",
        {"name": "$.traits.who"},
        {"who": {"first": "Ann", "last": "Lee", "first_initial": "A"}},
        {"FN": digest("ann"), "LN": digest("lee"), "FI": digest("a")},
    ),
    (
        "an advertising id, in the clear",
        {"mobile_advertiser_id": "$.traits.idfa"},
        {"idfa": "AB-1"},
        {"MADID": "ab-1"},
    ),
    (
        "a phone number by the mapped country",
        {"phone": "$.traits.tel", "country": "$.traits.land"},
        {"tel": "06 12 34 56 78", "land": "FR", "country": "DE"},
        {"PHONE": digest("33612345678"), "COUNTRY": digest("fr")},
    ),
    (
        "a phone number by a constant country",
        {"phone": "$.traits.tel", "country": {"const": "FR"}},
        {"tel": "06 12 34 56 78", "country": "DE"},
        {"PHONE": digest("33612345678"), "COUNTRY": digest("fr")},
    ),
    (
        "a phone number by the call's country",
        {"phone": "$.traits.tel"},
        {"tel": "06 12 34 56 78", "address": {"country": "FR"}},
        {"PHONE": digest("33612345678"), "COUNTRY": digest("fr")},
    ),
    (
        "a phone number by the default country",
        {"phone": "$.traits.tel"},
        {"tel": "0151 1234567"},
        {"PHONE": digest("491511234567")},
    ),
    ("what cannot be used", {"email": "$.traits.work_email"}, {"work_email": "no address"}, {}),
]


@pytest.mark.parametrize(
    ("fields", "traits", "expected"), [case[1:] for case in MAPPINGS], ids=[case[0] for case in MAPPINGS]
)
def test_what_is_sent(fields: dict[str, Any], traits: dict[str, Any], expected: dict[str, Any]) -> None:
    shop = Shop(fields)
    shop.knows(**traits)
    shop.buys()
    assert shop.row() == {"EXTERN_ID": "ann", **expected}


def test_several_emails_are_a_row_each() -> None:
    shop = Shop({"email": "$.traits.mails.$.address"})
    shop.knows(mails=[{"address": "b@a.com"}, {"address": "c@a.com"}, {"address": None}])
    shop.buys()
    ((_, rows),) = shop.sent()
    assert sorted(row.pop("EMAIL") for row in rows) == sorted([digest("b@a.com"), digest("c@a.com")])
    assert rows == [{"EXTERN_ID": "ann"}] * 2


def test_an_older_email_is_sent_beside_the_newer() -> None:
    shop = Shop({"email": "$.traits.mail"})
    shop.knows(mail="old@a.com")
    shop.buys()
    shop.knows(START + 1, mail="new@a.com")
    (_, (change, rows)) = shop.sent()
    assert change == "updated"
    assert [row["EMAIL"] for row in rows] == [digest("new@a.com"), digest("old@a.com")]


@pytest.mark.parametrize(
    ("given", "sent"),
    [("c-1", "c-1"), (17, "17"), ("ann@example.com", digest("ann@example.com"))],
    ids=["text", "number", "an address is not sent as it is"],
)
def test_another_external_id(given: Any, sent: str) -> None:
    shop = Shop({"external_id": ["$.traits.crm.id", "$.userId"]})
    shop.knows(crm={"id": given})
    shop.buys()
    (_, rows) = shop.sent()[-1]
    # A call without the trait has the user id in its place, which is newer.
    assert sorted(row["EXTERN_ID"] for row in rows) == sorted(["ann", sent])


def test_calls_of_every_kind_are_looked_into() -> None:
    fields = {"email": "$.properties.billing.email", "city": "$.context.location.city"}
    shop = Shop(fields)
    shop.buys()
    shop.hears(
        START + 1,
        event="Whatever",
        properties={"billing": {"email": "b@a.com"}},
        context={"location": {"city": "Lyon"}},
    )
    blank = {"billing": {"email": ""}}
    shop.hears(START + 2, type="page", properties=blank, context={"location": {"city": ""}})
    (_, (change, rows)) = shop.sent()
    assert (change, rows) == (
        "updated",
        [{"EXTERN_ID": "ann", "EMAIL": digest("b@a.com"), "CT": digest("lyon")}],
    )


def test_null_takes_away_what_an_identify_call_says_and_a_missing_trait_does_not() -> None:
    shop = Shop({"city": "$.traits.town"})
    shop.knows(town="Lyon")
    shop.buys()
    assert shop.row()["CT"] == digest("lyon")
    shop.knows(START + 1, other=1)
    assert shop.sent() == []
    shop.knows(START + 2, town=None)
    assert shop.sent() == [("updated", [{"EXTERN_ID": "ann"}])]


def test_each_destination_has_its_own() -> None:
    shop = Shop({})
    one, other = (
        {"ad_account_id": f"act_{number}", "fields": fields}
        for number, fields in enumerate([{}, {"email": "$.traits.work"}], 1)
    )
    shop.define([one, other])
    shop.wait_until(START)
    shop.knows(email="home@a.com", work="work@a.com")
    shop.buys()
    (delta,) = shop.deltas()
    assert delta.rows == {
        "a@act_1": [{"EXTERN_ID": "ann", "EMAIL": digest("home@a.com")}],
        "a@act_2": [{"EXTERN_ID": "ann", "EMAIL": digest("work@a.com")}],
    }


def test_raw_values_go_no_further() -> None:
    shop = Shop(
        {"email": "$.traits.work", "phone": "$.properties.tel", "name": {"last": {"trait": "nachname"}}}
    )
    shop.knows(work="canary@example.com", nachname="Canaryname")
    shop.buys(properties={"tel": "+49 151 99887766"})
    assert len(shop.row()) == 4
    written = b" ".join([*shop.records, *shop.log.values()]).lower()
    for raw in (b"canary", b"99887766"):
        assert raw not in written


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


# --- other calls ---


def test_what_is_said_of_a_group_is_not_the_persons() -> None:
    shop = Shop({"zip": {"trait": "plz"}, "city": "$.traits.town"})
    shop.knows(plz=10117, town="Berlin")
    shop.buys()
    shop.hears(START + 1, type="group", groupId="g1", traits={"plz": 80331, "town": "Muenchen"})
    ((_, (row,)),) = shop.sent()
    assert row == {"EXTERN_ID": "ann", "ZIP": digest("10117"), "CT": digest("berlin")}


def test_a_trait_is_one_of_identify_calls() -> None:
    shop = Shop({"zip": {"trait": "plz"}})
    shop.hears(type="page", traits={"plz": 10117})
    shop.buys()
    assert shop.sent() == [("entered", [{"EXTERN_ID": "ann"}])]


def test_a_row_of_a_warehouse_is_mapped_unless_it_is_dropped() -> None:
    shop = Shop({})
    rows = {"where": {"$.context.protocols.sourceId": "w"}}
    facebook = {"fields": {"email": "$.properties.mail"}}
    shop.plan = plan_of({"name": "a", "source": "reverse_etl", "rows": rows, "facebook": facebook})
    shop.resolver = Resolver(shop.plan, ResolveOptions())
    call = {"event": "new", "context": {"protocols": {"sourceId": "w"}}}
    made = [
        shop.resolver.resolve(
            json.dumps(
                {
                    "type": "track",
                    "userId": "ann",
                    "receivedAt": format_instant(START),
                    "properties": {"mail": "b@a.com"},
                    "integrations": {"All": let_through},
                    **call,
                }
            ).encode(),
            None,
            FAR_WALL,
            "lane",
            1,
        )
        for let_through in (True, False)
    ]
    ((_, taken),), dropped = made[0].records, made[1].records
    assert list((taken.identifiers or {}).values()) == [[digest("b@a.com")]]
    assert [event.identifiers for _, event in dropped] == []


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


# --- definitions ---


def problem(facebook: str, defaults: str = "{}") -> str:
    text = f"defaults: {{facebook: {defaults}}}\naudiences: [{{name: a, when: {{event: E}}, facebook: {facebook}}}]"
    with pytest.raises(InvalidInputError) as caught:
        parse_definitions([Document("f", text)])
    (line,) = str(caught.value).splitlines()
    return line.partition("facebook")[2]


@pytest.mark.parametrize(
    ("facebook", "said"),
    [
        ("{fields: {mail: $.traits.a}}", ".fields.mail: unknown field 'mail'; did you mean `email`?"),
        ("{fields: {email: traits.a}}", ".fields.email: a path here starts at the whole call, such as"),
        ("{fields: {email: []}}", ".fields.email: expected at least one place to look at"),
        ("{fields: {email: [[$.a]]}}", ".fields.email[0]: expected a path such as"),
        ("{fields: {city: $.traits.a.$}}", ".fields.city: a path to one value is needed here"),
        ("{fields: {email: $.}}", ".fields.email: a path may not be empty"),
        ("{fields: {email: {const: a, trait: b}}}", ".fields.email: expected one of {const: VALUE} and"),
        ("{fields: {email: {path: a}}}", ".fields.email: expected one of {const: VALUE} and {trait: KEY}"),
        ("{fields: {gender: {const: x}}}", ".fields.gender.const: this cannot be sent: no word for male"),
        ("{fields: {gender: {const: '-'}}}", ".fields.gender.const: a blank value is sent nowhere"),
        ("{fields: {name: {middle: $.a}}}", ".fields.name.middle: unknown key 'middle'"),
        (
            "{fields: {app_id: {const: fb12}}}",
            ".fields.app_id.const: this cannot be sent: an id of Facebook's has",
        ),
        ("{fields: {page_id: {const: '-'}}}", ".fields.page_id.const: a blank value is sent nowhere"),
        ("{external_id: md5}", ".external_id: expected plain or sha256, got"),
        ("{fields: {value: $.a}}", ": the field `value` is sent to value-based audiences alone"),
        ("{value_based: true}", ".value_based: what each person is worth is needed: map the field `value`"),
        ("{value_based: perhaps}", ".value_based: expected true or false"),
        ("{fields: 5}", ".fields: expected a mapping such as {email: $.traits.work_email}"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_said(facebook: str, said: str) -> None:
    assert problem(facebook).startswith(said)


def test_a_default_is_merged_field_by_field() -> None:
    text = (
        "defaults: {facebook: {fields: {email: $.traits.a, city: $.traits.b, name: {first: $.traits.c}}}}\n"
        "audiences: [{name: a, when: {event: E}, facebook: {fields: {email: $.traits.d, name: {last: $.traits.e}}}}]"
    )
    (audience,) = parse_definitions([Document("f", text)]).audiences
    fields = audience.destinations[0].fields
    assert {name: [source.path for source in sources] for name, sources in fields.items()} == {
        "email": ["traits.d"],
        "city": ["traits.b"],
        "name.first": ["traits.c"],
        "name.last": ["traits.e"],
    }


def test_a_computed_trait_in_a_mapping_hides_one_of_identify_calls() -> None:
    text = (
        "audiences: [{name: a, when: {event: E}, facebook: {fields: {city: {trait: town}}}}]\n"
        "traits: {town: {event: E, last: city}, other: {event: E, count: true}}"
    )
    (warning,) = parse_definitions([Document("f", text)]).warnings
    assert "`trait: town` is this computed trait" in warning


def test_external_ids_are_sent_hashed_where_that_is_asked_for() -> None:
    shop = Shop({"city": {"const": "Rome"}}, external_id="sha256")
    shop.buys()
    assert shop.sent()[-1][1] == [{"EXTERN_ID": digest("ann"), "CT": digest("rome")}]


def test_a_mapped_external_id_is_hashed_where_it_comes_in_and_a_hash_stays_as_it_is() -> None:
    shop = Shop({"external_id": "$.properties.crm"}, external_id="sha256")
    shop.buys(properties={"crm": "CRM-1"})
    assert shop.sent()[-1][1] == [{"EXTERN_ID": digest("CRM-1")}]
    assert all(b"CRM-1" not in record for record in shop.records)
    shop.buys(properties={"crm": digest("x").upper()})
    assert shop.sent()[-1][1] == [{"EXTERN_ID": digest("x")}, {"EXTERN_ID": digest("CRM-1")}]


@pytest.mark.parametrize(
    ("sent", "expected"), [("77", "77"), (77, "77"), (["77", "78"], "77"), ("app_77", None), ("", None)]
)
def test_the_id_of_an_app_goes_with_every_row_in_the_clear(sent: object, expected: str | None) -> None:
    shop = Shop({"app_id": "$.properties.app", "page_id": {"const": 5}, "email": "$.properties.mails.$"})
    shop.buys(properties={"app": sent, "mails": ["a@b.co", "c@d.co"]})
    ids = {"PAGE_ID": "5"} | ({} if expected is None else {"APP_ID": expected})
    rows = shop.sent()[-1][1]
    assert sorted(row.pop("EMAIL") for row in rows) == sorted([digest("a@b.co"), digest("c@d.co")])
    assert rows == [{"EXTERN_ID": "ann", **ids}] * 2


def test_the_id_of_an_app_finds_nobody_alone() -> None:
    shop = Shop({"external_id": "$.properties.none", "instagram_account_ids": {"const": 9}})
    shop.buys()
    assert shop.sent()[-1][1] == []


@pytest.mark.parametrize(("field", "warns"), [("$.traits.email", True), ("$.traits.crm_id", False)])
def test_an_external_id_that_is_clear_text_of_a_person_is_warned_about(field: str, warns: bool) -> None:
    text = f"audiences: [{{name: a, when: {{event: E}}, facebook: {{fields: {{external_id: {field}}}}}}}]"
    warnings = parse_definitions([Document("f", text)]).warnings
    assert [("is sent hashed" in warning) for warning in warnings] == [True] * warns


def test_a_plan_without_mappings_takes_and_keeps_nothing_more() -> None:
    plan = plan_of({"when": BOUGHT})
    assert plan.call_fields is None
    assert plan.mapped == frozenset()
