"""What identifies a person, and every secret, is nowhere but where it came from: a unique text in each place."""

from __future__ import annotations

import hashlib
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.canaries import found_in, internal_topics
from tests.integration.installation import Installation, WorkerProcess, wait_until
from tests.integration.topic_records import RawRecord

AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed, where: {currency: EUR}, sum: {property: revenue, at_least: 1}}}
  - {name: Pro, include_anonymous: true, when: {trait: plan, equals: pro}}
  - {name: VIPs, source: engage}
  - {name: Accounts, entity: account, when: {any: [{trait: plan, exists: true}, {users: {any: {trait: plan, equals: pro}}}]}}
traits:
  spent: {event: Order Completed, sum: revenue}
"""
TOKEN, SECRET = "EAAzq7tokencanary0123456789", "zq7appsecretcanary"
USER = "customer-zq7"
CRASH = "zq7crash@example.com"

# Trait of an identify call -> its value, and the forms of it that must be found nowhere.
IDENTIFYING: dict[str, tuple[Any, tuple[str, ...]]] = {
    "email": ("Zq7Mail.Canary@Example.com", ("zq7mail",)),
    "phone": ("+49 (1521) 837-4659", ("15218374659", "837-4659")),
    "gender": ("zq7gendercanary", ("zq7gender",)),
    "birthday": ("1987-11-23", ("1987-11-23", "19871123")),
    "birth_year": ("zq7yearcanary", ("zq7year",)),
    "last_name": ("Zq7lastname O'Canary", ("zq7last", "o'canary", "ocanary")),
    "first_name": ("Zq7firstname", ("zq7first",)),
    "city": ("Zq7 Citytown", ("zq7 city", "zq7city")),
    "state": ("Zq7statecanary", ("zq7state",)),
    "postal_code": ("ZQ7 9CX", ("zq7 9cx", "zq79cx")),
    "country": ("Zq7countrycanary", ("zq7country",)),
    "address": (
        {"city": "Zq7addresscity", "postalCode": "Zq7addresszip", "street": "Zq7street"},
        ("zq7addr", "zq7street"),
    ),
    "name": ("Zq7fullname Canary", ("zq7full",)),
    "username": ("zq7usernamecanary", ("zq7username",)),
    "company": ({"name": "zq7companycanary"}, ("zq7company",)),
    "unused": ("zq7unusedtrait", ("zq7unusedtrait",)),
}
# In other calls and places: canary -> the call.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "zq7unusedproperty": {
        "type": "track",
        "event": "Order Completed",
        "properties": {"revenue": 5, "currency": "EUR", "note": "zq7unusedproperty"},
    },
    "zq7orderemail": {
        "type": "track",
        "event": "Order Completed",
        "properties": {"revenue": 5, "currency": "EUR", "email": "zq7orderemail@example.com"},
    },
    "zq7otherevent": {"type": "track", "event": "zq7otherevent", "properties": {"a": 1}},
    "zq7filtered": {"type": "track", "event": "Order Completed", "properties": {"currency": "zq7filtered"}},
    "zq7revenue": {
        "type": "track",
        "event": "Order Completed",
        "properties": {"currency": "EUR", "revenue": "zq7revenue"},
    },
    "zq7pagename": {
        "type": "page",
        "name": "zq7pagename",
        "properties": {"url": "https://zq7pagename.example.com"},
    },
    "zq7screenname": {"type": "screen", "name": "zq7screenname"},
    "zq7grouptrait": {
        "type": "group",
        "groupId": "group-1",
        "traits": {"email": "zq7grouptrait@example.com"},
    },
    "zq7groupid": {"type": "group", "groupId": "zq7groupid@example.com", "traits": {"plan": "pro"}},
    "zq7previous": {"type": "alias", "previousId": "zq7previous"},
    "zq7integrations": {
        "type": "identify",
        "integrations": {"zq7integrations": True},
        "traits": {"plan": "pro"},
    },
    "zq7useragent": {
        "type": "identify",
        "context": {"userAgent": "zq7useragent", "ip": "zq7useragent"},
        "traits": {},
    },
    "zq7engagemail": {
        "type": "track",
        "event": "Audience Entered",
        "properties": {"vips": True, "email": "zq7engagemail@example.com"},
        "context": {
            "personas": {
                "computation_class": "audience",
                "computation_key": "vips",
                "computation_id": "zq7engagemail",
            },
            "traits": {"email": "zq7engagemail@example.com", "phone": "zq7engagemail"},
        },
    },
    "zq7messageid": {
        "type": "track",
        "event": "Order Completed",
        "messageId": "zq7messageid",
        "properties": {},
    },
    # Ids that are an e-mail address or a phone number by their looks.
    "zq7userid": {"type": "identify", "userId": "zq7userid@example.com", "traits": {"plan": "pro"}},
    "15228374660": {"type": "identify", "userId": "+4915228374660", "traits": {"plan": "pro"}},
    "zq7anonymous": {
        "type": "identify",
        "userId": "",
        "anonymousId": "zq7anonymous@example.com",
        "traits": {"plan": "pro"},
    },
    # Broken ones.
    "zq7brokentype": {"type": "zq7brokentype"},
    "zq7brokenfield": {"type": "track", "event": {"zq7brokenfield": 1}},
    "zq7brokentime": {"type": "track", "event": "Order Completed", "timestamp": "zq7brokentime"},
    "zq7brokenclaim": {
        "type": "identify",
        "traits": {"vips": "zq7brokenclaim"},
        "context": {"personas": {"computation_class": "audience", "computation_key": "vips"}},
    },
}
CANARIES = (
    {text for _, texts in IDENTIFYING.values() for text in texts}
    | ELSEWHERE.keys()
    | {TOKEN, SECRET, "zq7key"}
)


def calls() -> list[RawRecord]:
    traits = {name: value for name, (value, _) in IDENTIFYING.items()} | {"plan": "pro"}
    found: list[dict[str, Any]] = [{"type": "identify", "userId": USER, "traits": traits}]
    # Each alone as well: what one field hides in another is seen then.
    found += [
        {"type": "identify", "userId": f"{USER}-{name}", "traits": {name: value, "plan": "pro"}}
        for name, (value, _) in IDENTIFYING.items()
    ]
    found += [{"userId": USER, **call} for call in ELSEWHERE.values()]
    # The key of a source record may be anything, and is often the person's e-mail address.
    return [
        RawRecord(json.dumps(call).encode(), f"zq7key-{n}@example.com".encode())
        for n, call in enumerate(found)
    ]


@pytest.fixture(scope="module")
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    made = Installation(
        bootstrap_servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        AUDIENCES,
        settings={
            "FACEBOOK_ACCESS_TOKEN": TOKEN,
            "FACEBOOK_APP_SECRET": SECRET,
            "AUDIENCE_SYNC_ENGAGE_CALLS": "both",
            **PROBE_SOON,
        },
    )
    try:
        yield made
    finally:
        made.close()


PROBE_SOON = {"AUDIENCE_SYNC_FACEBOOK_PROBE_SECONDS": "1"}


def states(worker: WorkerProcess) -> set[str]:
    assert worker.process.poll() is None, worker.said
    audiences = (worker.stats() or {"audiences": {}})["audiences"]
    return {one["state"] for audience in audiences.values() for one in audience["destinations"]}


@pytest.fixture(scope="module")
def worker(installation: Installation) -> WorkerProcess:
    """Has taken everything in, been refused by Facebook in its own words, and delivered in the end."""
    quoting = {"error": {"message": f"Malformed access token {TOKEN}", "code": 190, "type": "OAuthException"}}
    fault = {"status": 401, "body": quoting}
    installation.fault(fault, path="/users$")
    started = installation.start_worker()
    installation.produce_raw(calls())
    wait_until(lambda: states(started) == {"held"}, lambda: f"{started.said}\n{started.stats()}")
    assert found_in(installation, CANARIES, started) == []
    installation.clear_faults()
    refused = {"error": {"message": "(#100) Invalid parameter", "code": 100, "type": "OAuthException"}}
    # One person among those who are sent together: their row is found by halving.
    installation.fault(
        {"status": 400, "body": refused}, path="/users$", row={"EXTERN_ID": f"{USER}-gender"}, times=None
    )
    installation.wait_until_idle(started)
    return started


def test_nothing_that_identifies_is_in_topics_logs_and_pages(
    installation: Installation, worker: WorkerProcess
) -> None:
    assert found_in(installation, CANARIES, worker) == []


def test_what_is_shown_of_one_profile_is_hashed(installation: Installation, worker: WorkerProcess) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/profiles/{USER}", timeout=10) as answer:
        page = answer.read().decode().lower()
    assert hashlib.sha256(b"zq7mail.canary@example.com").hexdigest() in page
    assert [canary for canary in CANARIES if canary.lower() in page] == []


def test_the_search_would_find_it(installation: Installation, worker: WorkerProcess) -> None:
    """What is there on purpose is found where the canaries were looked for."""
    catalog = installation.catalog
    topics = {name: content.lower() for name, content in internal_topics(installation).items()}
    hashed = hashlib.sha256(b"zq7mail.canary@example.com").hexdigest().encode()
    for topic in (catalog.profile_events, catalog.profiles_changelog, catalog.memberships):
        assert USER.encode() in topics[topic.name], topic.name
        assert hashed in topics[topic.name], topic.name
    assert USER.encode() in topics[catalog.engage_calls.name]
    reasons = {letter["reason"] for letter in installation.dead_letters()}
    assert reasons == {
        "unknown_type",
        "invalid_field",
        "invalid_timestamp",
        "invalid_audience_membership",
        "rejected_row",
    }


def test_facebook_gets_hashes(installation: Installation, worker: WorkerProcess) -> None:
    sent = json.dumps(installation.sandbox_get("requests")).lower()
    assert hashlib.sha256(b"zq7mail.canary@example.com").hexdigest() in sent
    # The token goes along in a header, the secret only as a proof made of it.
    assert sorted(canary for canary in CANARIES if canary.lower() in sent) == []


def test_a_worker_that_starts_anew_says_no_more(installation: Installation, worker: WorkerProcess) -> None:
    assert worker.stop() == 0
    successor = installation.start_worker()
    installation.wait_until_idle(successor)
    assert found_in(installation, CANARIES, successor) == []


def test_of_an_exception_only_type_and_place_are_said(
    installation: Installation, worker: WorkerProcess
) -> None:
    for running in installation.workers:
        if running.process.poll() is None:
            assert running.stop() == 0
    crashing = installation.start_worker(at=("evaluate.flush", 1, f"cannot fold {CRASH}"))
    installation.produce([{"type": "identify", "userId": f"{USER}-crash", "traits": {"plan": "pro"}}])
    assert crashing.ended() == 1
    assert "worker: ended: unexpected ValueError at crashing_worker.py:" in crashing.said
    assert found_in(installation, [*CANARIES, CRASH]) == []
