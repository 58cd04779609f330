"""Identifiers: from where, under which names, in which form; and that nothing readable leaves resolve."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from app.domain.fold import MAX_OF_ONE_KIND
from app.domain.normalization import NormalizationOptions
from app.domain.person import contacts_in, device_identifier, identifiers_in
from app.domain.resolution import ResolveOptions, Resolver
from schemas.dead_letter import DropReason
from schemas.profile import ProfileEvent
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of

OPTIONS = NormalizationOptions(today_year=2026)
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def found(*sources: Any) -> Any:
    return identifiers_in(sources, OPTIONS)


class One:
    """A resolver that remembers what it has forwarded."""

    def __init__(self, *audiences: dict[str, Any], **options: Any) -> None:
        self.resolver = Resolver(
            plan_of(*(audiences or ({"when": {"event": "E"}},))), ResolveOptions(**options)
        )
        self.offset = 0

    def events(self, **fields: Any) -> list[ProfileEvent]:
        self.offset += 1
        resolution = self.resolver.resolve(call(**fields), START, FAR_WALL, "lane", self.offset)
        assert resolution.refused is None
        return [event for _, event in resolution.records]

    def identifiers(self, **fields: Any) -> Any:
        (event,) = self.events(**fields)
        return event.identifiers


@pytest.mark.parametrize(
    ("options", "sent"),
    [({}, "maryann"), ({"keep_name_blanks": True}, "mary ann"), ({"romanise_initial": True}, "maryann")],
)
def test_names_of_calls_are_read_by_the_switches(options: dict[str, Any], sent: str) -> None:
    mapped = {"fields": {"name": {"first": "$.traits.given", "first_initial": "$.traits.initial"}}}
    audience = {"when": {"event": "E"}, "facebook": mapped}
    traits = {"first_name": "Mary  Ann", "given": "Mary Ann", "initial": "É"}
    found = One(audience, **options).identifiers(type="identify", traits=traits)
    names = {column.partition("@")[0]: value for column, value in found.items() if "@" in column}
    assert found["FN"] == names["FN"] == sha(sent)
    assert names["FI"] == sha("e" if options.get("romanise_initial") else "é")


# --- names ---

NAMES = [
    # names of a trait, a value, what is sent
    (["email"], "Jane@Example.com", {"EMAIL": sha("jane@example.com")}),
    (["first_name", "firstname", "firstName", "first"], "Jane", {"FN": sha("jane")}),
    (["last_name", "lastname", "lastName", "last"], "Roe", {"LN": sha("roe")}),
    (["phone", "phone_number", "phonenumber", "phoneNumber"], "+14155550100", {"PHONE": sha("14155550100")}),
    (["gender", "gen"], "Female", {"GEN": sha("f")}),
    (["birth_year", "birthYear"], 1990, {"DOBY": sha("1990")}),
    (["birth_month", "birthMonth"], 5, {"DOBM": sha("05")}),
    (
        ["birthday", "birth_day", "birthDay", "date_of_birth", "dateOfBirth", "DOB"],
        "1990-05-04",
        {"DOBY": sha("1990"), "DOBM": sha("05"), "DOBD": sha("04")},
    ),
    (["birthday", "birth_day", "birthDay", "date_of_birth", "dateOfBirth", "DOB"], "4", {"DOBD": sha("04")}),
    (["state", "address_state", "address.state"], "California", {"ST": sha("ca")}),
    (["city", "address_city", "address.city"], "Lyon", {"CT": sha("lyon")}),
    (
        ["zip", "zip_code", "zipCode", "postal_code", "postalCode", "address.postalCode"],
        "94107",
        {"ZIP": sha("94107")},
    ),
    (["country", "country_code", "countryCode", "address.country"], "FR", {"COUNTRY": sha("fr")}),
]
EACH_NAME = [(name, value, sent) for names, value, sent in NAMES for name in names]


@pytest.mark.parametrize(
    ("name", "value", "sent"), EACH_NAME, ids=[f"{row[0]} {row[1]}" for row in EACH_NAME]
)
def test_every_name_that_segments_destinations_know(name: str, value: Any, sent: dict[str, str]) -> None:
    assert found({name: value}) == sent
    (event,) = One().events(type="identify", traits={name: value})
    assert event.identifiers == sent


@pytest.mark.parametrize(
    ("name", "value", "column"),
    [
        ("city", "Lyon", "CT"),
        ("state", "Texas", "ST"),
        ("postalCode", "69002", "ZIP"),
        ("postal_code", "69002", "ZIP"),
        ("country", "FR", "COUNTRY"),
    ],
)
def test_the_address_object_comes_last(name: str, value: str, column: str) -> None:
    inside = found({"address": {name: value}})
    assert list(inside) == [column]
    outer = {"postalCode": "zip"}.get(name, name)
    assert found({"address": {name: "x1"}, outer: value}) == inside


@pytest.mark.parametrize("name", ["Email", "EMAIL", "mail", "fn", "dob", "username", "title", "id", "value"])
def test_other_names_are_no_identifiers(name: str) -> None:
    assert found({name: "jane@example.com"}) is None


def test_the_first_place_that_is_not_blank_counts() -> None:
    assert found({"first_name": " ", "firstname": None, "firstName": "Jane", "first": "No"}) == {
        "FN": sha("jane")
    }
    assert found({"email": "-"}, {"email": "b@example.com"}, {"email": "c@example.com"}) == {
        "EMAIL": sha("b@example.com")
    }


# --- birthdays ---

BIRTHDAYS = [
    # traits, what is sent, why
    ({"birthday": "1990-05-04T22:00:00.000Z"}, {"DOBY": "1990", "DOBM": "05", "DOBD": "04"}, "a date-time"),
    ({"birthday": 31}, {"DOBD": "31"}, "the bare day"),
    ({"birthday": "7", "birth_month": "May", "birthYear": "1990"}, {"DOBY": "1990", "DOBM": "05", "DOBD": "07"}, "parts"),
    ({"birthday": "1990-05-04", "birth_year": 1991}, {"DOBY": "1991", "DOBM": "05", "DOBD": "04"}, "a part goes first"),
    ({"birthday": "1604-05-04"}, {"DOBY": None, "DOBM": "05", "DOBD": "04"}, "a year that nobody was born in"),
    ({"birthday": "32"}, {"DOBD": None}, "no day"),
    ({"birthday": "04/05/1990"}, {"DOBY": None, "DOBM": None, "DOBD": None}, "day and month cannot be told"),
    ({"birthday": None}, {"DOBY": None, "DOBM": None, "DOBD": None}, "removed"),
    ({"birthday": "", "birth_year": 1990}, {"DOBY": "1990", "DOBM": None, "DOBD": None}, "a blank and a part"),
    ({"birth_year": None}, {"DOBY": None}, "one part removed"),
]  # fmt: skip


@pytest.mark.parametrize(("traits", "sent", "why"), BIRTHDAYS, ids=[row[2] for row in BIRTHDAYS])
def test_birthdays(traits: dict[str, Any], sent: dict[str, str | None], why: str) -> None:
    hashed = {column: None if value is None else sha(value) for column, value in sent.items()}
    assert found(traits) == hashed


# --- several values ---


def test_several_emails_and_phones_of_one_call() -> None:
    traits = {
        "email": ["A@example.com", "b@example.com"],
        "phone": ["+14155550100", "06 12 34 56 78"],
        "country": "FR",
    }
    assert found(traits) == {
        "EMAIL": [sha("a@example.com"), sha("b@example.com")],
        "PHONE": [sha("14155550100"), sha("33612345678")],
        "COUNTRY": sha("fr"),
    }


SEVERAL = [
    # what stands under email, what is sent, why
    (["a@example.com"], sha("a@example.com"), "one in a list is one"),
    (["a@example.com", "A@Example.com "], sha("a@example.com"), "the same twice"),
    (["", None, "a@example.com"], sha("a@example.com"), "blanks are passed over"),
    (["nobody", "a@example.com"], sha("a@example.com"), "what cannot be used too"),
    (["nobody", {}, ["x@example.com"], 5], None, "nothing usable"),
    ([], None, "an empty list is a blank"),
    ([None, "-"], None, "and so is a list of blanks"),
    (
        [f"{n}@example.com" for n in range(9)],
        [sha(f"{n}@example.com") for n in range(MAX_OF_ONE_KIND)],
        "bounded",
    ),
]


@pytest.mark.parametrize(("value", "sent", "why"), SEVERAL, ids=[row[2] for row in SEVERAL])
def test_a_list_of_emails(value: list[Any], sent: Any, why: str) -> None:
    assert found({"email": value}) == {"EMAIL": sent}


def test_an_empty_list_gives_way_to_the_next_place_and_other_fields_take_none() -> None:
    assert found({"email": []}, {"email": "a@example.com"}) == {"EMAIL": sha("a@example.com")}
    assert found({"first_name": ["Jane", "Joan"]}) == {"FN": None}


# --- which calls ---

EMAIL = {"EMAIL": sha("a@example.com")}
CONTEXT = {"traits": {"email": "a@example.com", "city": "Lyon", "plan": "x"}}


@pytest.mark.parametrize("kind", ["track", "page", "screen", "group"])
def test_any_call_has_contacts_in_the_traits_of_its_context_and_nothing_in_its_properties(kind: str) -> None:
    fields: dict[str, Any] = {"type": kind, "event": "Other", "groupId": "g"}
    properties = {"email": "b@example.com", "city": "Paris", "phone": "+14155550100"}
    traits = {"email": "c@example.com", "phone": "+14155550100"}
    assert One().events(**fields, properties=properties, traits=traits) == []
    assert One().identifiers(**fields, properties=properties, traits=traits, context=CONTEXT) == EMAIL


def test_context_traits_are_no_traits_of_the_profile() -> None:
    (event,) = One({"when": {"trait": "plan", "equals": "x"}}).events(context=CONTEXT)
    assert (event.traits, event.identifiers) == (None, EMAIL)


def test_contacts_that_a_library_repeats_in_every_call_are_forwarded_once_for_each_profile() -> None:
    one = One()
    assert one.identifiers(event="Other", context=CONTEXT) == EMAIL
    assert one.events(event="Other", context=CONTEXT) == []
    assert one.identifiers(event="E", context=CONTEXT) is None
    assert one.identifiers(event="Other", context=CONTEXT, userId="user_2") == EMAIL
    other = {"traits": {"email": "b@example.com"}}
    assert one.identifiers(event="Other", context=other) == {"EMAIL": sha("b@example.com")}


def test_the_country_in_the_context_makes_a_number_international_and_is_not_sent() -> None:
    context = {"traits": {"phoneNumber": "06 12 34 56 78", "countryCode": "FR", "email": ""}}
    assert One().identifiers(context=context) == {"PHONE": sha("33612345678")}
    context["traits"].pop("countryCode")
    assert One(default_country="DE").identifiers(context=context) == {"PHONE": sha("49612345678")}


@pytest.mark.parametrize("traits", [None, [], "a@example.com", 5, {}, {"email": None}, {"email": ["-"]}])
def test_context_traits_that_hold_nothing_say_nothing(traits: Any) -> None:
    assert contacts_in(traits, OPTIONS) is None
    assert One().events(event="Other", context={"traits": traits}) == []


def test_an_identify_calls_own_traits_go_before_its_context() -> None:
    context = {**CONTEXT, "device": {"advertisingId": DEVICE, "adTrackingEnabled": True, "type": "ios"}}
    sent = One().identifiers(
        type="identify", traits={"email": "b@example.com", "city": "Nice"}, context=context
    )
    assert sent == {"EMAIL": sha("b@example.com"), "CT": sha("nice"), "MADID": DEVICE}
    sent = One().identifiers(type="identify", traits={"email": ""}, context=context)
    assert sent == {**EMAIL, "MADID": DEVICE}


@pytest.mark.parametrize("kind", ["identify", "track"])
def test_a_computed_traits_call_is_an_ordinary_call(kind: str) -> None:
    personas = {"computation_class": "computed_trait", "computation_key": "total"}
    fields = {"type": kind, "event": "Trait Computed", "properties": {"email": "b@example.com", "total": 3}}
    assert One().identifiers(**fields, context={"personas": personas, **CONTEXT}) == EMAIL


# --- devices ---

DEVICES = [
    # what is in context.device, whether of an ordinary call, whether of Engage's or a warehouse's, why
    ({"adTrackingEnabled": True, "type": "android"}, True, True, "allowed"),
    ({"adTrackingEnabled": True, "type": "iOS"}, True, True, "in any case"),
    ({"adTrackingEnabled": True}, True, True, "does not say what it is"),
    ({"type": "ios"}, False, True, "does not say whether it may"),
    ({"adTrackingEnabled": False, "type": "ios"}, False, False, "refused"),
    ({"adTrackingEnabled": "true", "type": "ios"}, False, True, "a text allows nothing"),
    ({"adTrackingEnabled": True, "type": "roku"}, False, False, "no phone"),
    ({"adTrackingEnabled": True, "advertisingId": "0000-0000"}, False, False, "opted out of at the device"),
    ({"adTrackingEnabled": True, "advertisingId": None}, False, False, "none there"),
    ({"adTrackingEnabled": True, "advertisingId": "a@b.co"}, False, False, "no id at all"),
]


@pytest.mark.parametrize(("device", "ordinary", "trusted", "why"), DEVICES, ids=[row[3] for row in DEVICES])
def test_which_devices_have_an_advertising_id(
    device: dict[str, Any], ordinary: bool, trusted: bool, why: str
) -> None:
    whole = {"id": "device-1", "advertisingId": DEVICE.upper(), **device}
    assert device_identifier(whole, trusted=False) == (DEVICE if ordinary else None)
    assert device_identifier(whole, trusted=True) == (DEVICE if trusted else None)
    events = One().events(event="Other", context={"device": whole})
    assert [event.identifiers for event in events] == ([{"MADID": DEVICE}] if ordinary else [])


# --- privacy ---

PERSON = {
    "email": ["canary1@example.com", "canary2@example.com"],
    "phone": "+14155550177",
    "first_name": "Canaryfirst",
    "last_name": "Canarylast",
    "gender": "female",
    "birthday": "1987-06-05",
    "city": "Canarytown",
    "state": "Canarystate",
    "postal_code": "CANARY17",
    "country": "FR",
    "address": {"street": "Canary street 7", "city": "Canarytown"},
}
READABLE = ("anary", "ANARY", "4155550177", "1987", "female", "06-05")
ENGAGE = {"computation_class": "audience", "computation_key": "vips"}


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "identify", "traits": PERSON},
        {"event": "E", "properties": PERSON, "context": {"traits": PERSON}},
        {"type": "identify", "traits": {**PERSON, "vips": True}, "context": {"personas": ENGAGE, "traits": PERSON}},
        {"properties": {**PERSON, "vips": False}, "context": {"personas": ENGAGE, "traits": PERSON}},
        {"event": "new", "properties": PERSON, "__segment_id": "canary"},
        {"event": "deleted", "properties": PERSON, "context": {"traits": PERSON, "device": {"id": "Canary"}}},
    ],
)  # fmt: skip
def test_nothing_readable_leaves_resolve(fields: dict[str, Any]) -> None:
    one = One(
        {"when": {"event": "E"}},
        {"key": "vips", "source": "engage"},
        {"key": "rows", "source": "reverse_etl", "rows": {"where": {"$.userId": "user_1"}}},
    )
    (event,) = one.events(**fields)
    written = msgspec.msgpack.encode(event).decode("utf-8", "replace")
    assert event.identifiers
    assert [text for text in READABLE if text in written] == []


def test_a_user_id_that_is_an_email_address_leaves_resolve_as_its_hash() -> None:
    one = One()
    resolution = one.resolver.resolve(
        call(type="identify", userId="canary@example.com", traits=PERSON), START, FAR_WALL, "lane", 0
    )
    ((profile, event),) = resolution.records
    assert profile == sha("canary@example.com")
    assert "anary" not in json.dumps([profile, event.identifiers])


def test_without_contacts_in_context_nothing_is_forwarded_for_an_event_that_nobody_needs() -> None:
    resolution = One().resolver.resolve(
        call(event="Other", context={"page": {"path": "/"}, "library": {}}), START, FAR_WALL, "lane", 0
    )
    assert resolution.dropped is DropReason.NOT_NEEDED
