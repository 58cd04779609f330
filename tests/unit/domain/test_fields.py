"""Mapped fields: what each destination is sent, from which calls, and when it is sent again.

What is expected is hashed here, by hand.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.instants import format_instant
from app.domain.resolution import ResolveOptions, Resolver
from tests.unit.domain.plans import FAR_WALL, START, plan_of
from tests.unit.domain.shop_of_fields import BOUGHT, Shop, digest

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
        {"idfa": "AB1234CD-E123-12FG-J123-000000000000"},
        {"MADID": "ab1234cd-e123-12fg-j123-000000000000"},
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


# --- definitions ---


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


def test_a_plan_without_mappings_takes_and_keeps_nothing_more() -> None:
    plan = plan_of({"when": BOUGHT})
    assert plan.call_fields is None
    assert plan.mapped == frozenset()
