"""`topics repartition`: the same memberships in another number of partitions, at Facebook too, and nothing sent for it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.audiences_of_traits import wait_until_paused
from tests.integration.installation import (
    Installation,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import NAMES, Order, as_events, expected_members, make_orders
from tests.integration.repartitioning import (
    calls,
    deltas,
    installation_of,
    killed_behind,
    repartition,
    rest,
    writes,
)
from tests.integration.topic_records import RawRecord, write_records

LINKED = [f"linked_{number}" for number in range(40)]


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    with closing(installation_of(bootstrap_servers, topic_prefix)) as made:
        yield made


def anonymous(orders: list[Order]) -> list[RawRecord]:
    """Orders of linked people, by their device alone."""
    records = []
    for number, order in enumerate(orders):
        instant = order.at.isoformat().replace("+00:00", "Z")
        call = {
            "type": "track",
            "event": "Order Completed",
            "anonymousId": f"device-{order.user}",
            "messageId": f"device-{number}",
            "timestamp": instant,
            "receivedAt": instant,
            "properties": {"revenue": order.cents / 100},
        }
        records.append(RawRecord(json.dumps(call).encode(), None, number % 2))
    return records


def test_from_four_partitions_to_six_and_back_to_three(
    installation: Installation, bootstrap_servers: str
) -> None:
    now = datetime.now(UTC)
    orders = make_orders(count=3_000, users=400, days=150)
    of_linked = [Order(user, now - timedelta(days=20), 1_234) for user in LINKED]
    of_devices = [Order(user, now - timedelta(days=10), 4_321) for user in LINKED]
    source = installation.catalog.source_topic

    worker = installation.start_worker()
    installation.produce(as_events(orders)[:1_100])
    installation.produce(
        [
            {"type": "identify", "userId": user, "anonymousId": f"device-{user}", "traits": {}}
            for user in LINKED
        ]
    )
    installation.produce([{**event, "messageId": f"l-{event['userId']}"} for event in as_events(of_linked)])
    late = as_events([Order("secret", now - timedelta(days=5), 9_900)])[0]
    installation.produce([{**late, "messageId": "secret-1"}])
    wait_until(lambda: len(installation.facebook_members()) >= 7, lambda: worker.said)
    installation.wait_until_idle(worker)

    refused = installation.command("topics", "repartition", "--partitions", "6")
    assert refused.returncode == 2
    assert "are in group" in refused.stderr
    assert "stop all of them" in refused.stderr

    # What has to survive: a cursor that is far behind, a refused row, who was forgotten, a letter of nobody's record.
    assert installation.command("audiences", "pause", "watched").returncode == 0
    picky = next(one["id"] for one in installation.sandbox_get("audiences") if one["name"] == "Picky")
    error = {"message": "(#100) Invalid parameter", "type": "OAuthException", "code": 100}
    installation.fault({"status": 400, "body": {"error": error}}, path=f"/{picky}/users")
    watching = [f"watcher_{number}" for number in range(30)]
    wait_until_paused(worker, "watched")
    installation.produce(calls("Watched", watching) + calls("Tasted", ["gourmet"]))
    assert installation.command("forget", "secret").returncode == 0
    write_records(
        bootstrap_servers, installation.catalog.profile_events.name, [RawRecord(b"garbage", b"user_1")]
    )
    wait_until(
        lambda: (
            {letter["stage"] for letter in installation.dead_letters()} == {"evaluate", "deliver"}
            and "secret" not in installation.facebook_members()["Recent"]
        ),
        lambda: worker.said,
    )
    installation.clear_faults()

    # Stopped while calls come in: some wait in profile.events.
    visitors = [f"visitor_{number}" for number in range(30)]
    done = (worker.stats() or {})["stages"]["resolve"]["in"]
    installation.produce(calls("Visited", visitors) + as_events(orders)[1_100:2_200])
    visited_at = time.monotonic()
    wait_until(
        lambda: (worker.stats() or {})["stages"]["resolve"]["in"] > done + 100,
        lambda: worker.said,
        every=0.01,
    )
    assert worker.stop() == 0, worker.said
    moved = repartition(installation, 6)
    assert moved["profiles"] > 400
    assert moved["destinations"] == 7
    assert moved["expired"] == 1

    old = installation.start_worker(settings={"AUDIENCE_SYNC_PARTITIONS": "4"})
    assert old.ended() == 2
    assert "`audience-sync topics repartition --partitions 4`" in old.said
    worker = installation.start_worker()
    installation.produce(as_events(orders)[2_200:])
    write_records(bootstrap_servers, source, anonymous(of_devices))
    installation.produce([{**late, "messageId": "secret-2"}])
    rest(worker)
    expected = expected_members(orders + of_linked + of_devices)
    assert set(LINKED) <= expected["two_orders"]
    everybody = members_of(deltas(installation))
    assert {key: everybody[key] for key in NAMES} == expected
    assert everybody["watched"] == set(watching)
    at_facebook = installation.facebook_members()
    assert {NAMES[key]: members for key, members in expected.items()}.items() <= at_facebook.items()
    assert (at_facebook["Watched"], at_facebook["Picky"]) == (set(), set())
    assert_unbroken([one for one in deltas(installation) if one["profile"] != "secret"])

    # Time alone takes them out, by what is due since before.
    assert set(visitors) == at_facebook["Fresh"] or time.monotonic() > visited_at + 55
    wait_until(lambda: not installation.facebook_members()["Fresh"], lambda: worker.said)

    # The refused row is still known under a place where it can be looked for.
    replayed = installation.command("dead-letters", "replay", "--stage", "deliver", "--json")
    assert json.loads(replayed.stdout)["replayed"] == 1, replayed.stdout
    wait_until(lambda: installation.facebook_members()["Picky"] == {"gourmet"}, lambda: worker.said)

    # With nothing in between, not one word is said to Facebook and not one change is written.
    rest(worker)
    assert worker.stop() == 0
    before, written = deltas(installation), writes(installation)
    moved = repartition(installation, 3)
    assert moved["waiting"] == 0
    worker = installation.start_worker()
    rest(worker)
    time.sleep(2)
    rest(worker)
    assert writes(installation) == written
    assert sorted(map(json.dumps, deltas(installation))) == sorted(map(json.dumps, before))
    agree = installation.command("reconcile", "--json")
    document = json.loads(agree.stdout)
    assert [one["counted"] for one in document["audiences"]] == [
        one["members"] for one in document["audiences"]
    ]
    # The paused audience goes on where it stood.
    assert installation.command("audiences", "resume", "watched").returncode == 0
    wait_until(lambda: installation.facebook_members()["Watched"] == set(watching), lambda: worker.said)
    assert len(writes(installation)) == len(written) + 1
    installation.produce([*calls("Watched", ["one_more"]), {**late, "messageId": "secret-3"}])
    wait_until(lambda: "one_more" in installation.facebook_members()["Watched"], lambda: worker.said)
    rest(worker)
    assert "secret" not in installation.facebook_members()["Recent"]


def test_given_up_while_it_copies(installation: Installation) -> None:
    worker = installation.start_worker()
    installation.produce(calls("Watched", ["one", "two"]))
    wait_until(lambda: installation.facebook_members().get("Watched") == {"one", "two"}, lambda: worker.said)
    installation.wait_until_idle(worker)
    assert worker.stop() == 0
    killed = killed_behind(installation, 2, "copied")
    assert killed.returncode == -signal.SIGKILL
    done = installation.command("topics", "repartition", "--partitions", "4")
    assert (done.returncode, done.stdout) == (0, "the topics have 4 partitions\n"), done.stderr
    worker = installation.start_worker()
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Watched"] == {"one", "two"}
