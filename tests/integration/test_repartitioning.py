"""`topics repartition`: the same memberships in another number of partitions, at Facebook too, and nothing sent for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.audiences_of_traits import wait_until_paused
from tests.integration.installation import (
    HERE,
    PATIENCE_SECONDS,
    ROOT,
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, Order, as_events, expected_members, make_orders
from tests.integration.topic_records import RawRecord, write_records
from topics.spec import staging

MORE = """
  - {name: Fresh, when: {event: Visited, within: 60s}}
  - {name: Watched, when: {event: Watched}}
  - {name: Picky, when: {event: Tasted}, facebook: {ad_account_id: act_2}}
"""
LINKED = [f"linked_{number}" for number in range(40)]
STEPS = {
    "copying": ("copying", "staging", "copied"),
    "swapping": ("swapping", "deleted ProfileEvent, MessagePack", "filled MembershipDelta, JSON"),
    "later": ("created ProfileState, MessagePack", "deleted DeadLetter, JSON"),
    "finishing": ("finishing", "offsets", "cleaned"),
}


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    settings = {"AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000"}
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES + MORE, settings=settings)) as made:
        yield made


def repartition(installation: Installation, partitions: int) -> dict[str, Any]:
    """What it moved."""
    done = installation.command("topics", "repartition", "--partitions", str(partitions), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["before"], document["after"]) == (installation.partitions, partitions)
    installation.partitions = partitions
    moved: dict[str, Any] = document["moved"]
    return moved


def deltas(installation: Installation) -> list[dict[str, Any]]:
    """As `Installation.memberships`, where somebody has been forgotten."""
    records = installation.records(installation.catalog.memberships.name)
    return [json.loads(value) for record in records if (value := record.value()) is not None]


def writes(installation: Installation) -> list[str]:
    """Requests that were no mere reads."""
    requests = installation.sandbox_get("requests")
    return [f"{one['method']} {one['path']} {one['body']}" for one in requests if one["method"] != "GET"]


def lagging(worker: WorkerProcess) -> bool:
    assert worker.process.poll() is None, worker.said
    stats = worker.stats()
    if stats is None or not stats["worker"]["ready"] or stats["clock_lag_seconds"] is None:
        return True
    destinations = [one for audience in stats["audiences"].values() for one in audience["destinations"]]
    at_work = [one for one in destinations if one["state"] not in ("live", "paused") or one["pending"]]
    lags = [stats["stages"][name]["lag"] for name in ("resolve", "evaluate", "batch")]
    return lags != [0, 0, 0] or stats["clock_lag_seconds"] > 3 or bool(at_work)


def rest(worker: WorkerProcess) -> None:
    """As `Installation.wait_until_idle`, where an audience may be paused."""
    quiet = 0

    def at_rest() -> bool:
        nonlocal quiet
        quiet = 0 if lagging(worker) else quiet + 1
        return quiet >= 4

    wait_until(at_rest, lambda: f"{worker.said}\n{json.dumps(worker.stats())}", every=0.4)


def calls(event: str, users: list[str], **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "track", "event": event, "userId": user, **fields} for user in users]


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


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_killed_at_any_step_it_is_run_again(installation: Installation, steps: tuple[str, ...]) -> None:
    orders = make_orders(count=800, users=150, days=150)
    events = as_events(orders)
    worker = installation.start_worker()
    installation.produce(events[:400])
    wait_until(lambda: len(installation.facebook_members()) >= 7, lambda: worker.said)
    installation.wait_until_idle(worker)
    assert worker.stop() == 0
    before, written = sorted(map(json.dumps, deltas(installation))), writes(installation)
    for place, step in enumerate(steps):
        target = (6, 4)[place % 2]
        killed = subprocess.run(
            [sys.executable, str(HERE / "crashing_repartition.py"), str(target), step],
            cwd=ROOT,
            env=installation.environment(0, None),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert killed.returncode == -signal.SIGKILL, (step, killed.stderr)
        refused = installation.start_worker(settings={"AUDIENCE_SYNC_PARTITIONS": str((4, 6, target)[place])})
        assert refused.ended() == 2, (step, refused.said)
        assert f"`audience-sync topics repartition --partitions {target}`" in refused.said
        for command in (
            (["topics"], ["reconcile"]),
            (["forget", "somebody"], ["audiences", "show", "first_order"]),
            (["topics", "--json"], ["reconcile", "--json"]),
        )[place]:
            said = installation.command(*command)
            assert (said.returncode, "is not finished" in said.stderr) == (2, True), (step, command)
        repartition(installation, target)
        assert sorted(map(json.dumps, deltas(installation))) == before, step
        assert not any(staging(spec).name in topics(installation) for spec in installation.catalog.all())
    worker = installation.start_worker()
    rest(worker)
    assert writes(installation) == written
    installation.produce(events[400:])
    rest(worker)
    expected = expected_members(orders)
    members = members_of(deltas(installation))
    assert {key: members[key] for key in NAMES} == expected
    assert {
        NAMES[key]: found for key, found in expected.items()
    }.items() <= installation.facebook_members().items()
    assert_unbroken(deltas(installation))


def test_behind_a_worker_that_was_killed_nothing_counts_twice(installation: Installation) -> None:
    """No call has a message id that could be known again."""
    orders = make_orders(count=1_200, users=250, days=150)
    first = {event["messageId"]: event for event in as_events(orders)}
    # Received now, so that all clocks are near the wall.
    known = ("messageId", "receivedAt")
    events = [{name: said for name, said in event.items() if name not in known} for event in first.values()]
    installation.produce(events[:800])
    for step, count, target in (("resolve.flush", 4, 6), ("evaluate.commit", 4, 3)):
        worker = installation.start_worker(at=(step, count, signal.SIGKILL))
        assert worker.ended() == -signal.SIGKILL, worker.said

        def moved(target: int = target) -> subprocess.CompletedProcess[str]:
            return installation.command("topics", "repartition", "--partitions", str(target), "--json")

        # It is in the group until its session has ended.
        wait_until(lambda: "are in group" not in moved().stderr, lambda: "in the group for ever", every=1)
        if (done := moved()).returncode == 2:
            assert "a worker did not end by itself" in done.stderr
            helper = installation.start_worker()
            rest(helper)
            assert helper.stop() == 0
            done = moved()
        assert done.returncode == 0, done.stderr
        installation.partitions = target
    worker = installation.start_worker()
    installation.produce(events[800:])
    rest(worker)
    expected = expected_members(orders)
    members = members_of(deltas(installation))
    assert {key: members[key] for key in NAMES} == expected
    assert_unbroken(deltas(installation))


def test_given_up_while_it_copies(installation: Installation) -> None:
    worker = installation.start_worker()
    installation.produce(calls("Watched", ["one", "two"]))
    wait_until(lambda: installation.facebook_members().get("Watched") == {"one", "two"}, lambda: worker.said)
    installation.wait_until_idle(worker)
    assert worker.stop() == 0
    killed = subprocess.run(
        [sys.executable, str(HERE / "crashing_repartition.py"), "2", "copied"],
        cwd=ROOT,
        env=installation.environment(0, None),
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert killed.returncode == -signal.SIGKILL
    done = installation.command("topics", "repartition", "--partitions", "4")
    assert (done.returncode, done.stdout) == (0, "the topics have 4 partitions\n"), done.stderr
    worker = installation.start_worker()
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Watched"] == {"one", "two"}


def topics(installation: Installation) -> set[str]:
    admin = AdminClient({"bootstrap.servers": installation.bootstrap_servers})
    return set(admin.list_topics(timeout=30).topics)
