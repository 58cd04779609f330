"""Partitions of another number, and audiences for which that must make no difference."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from confluent_kafka.admin import AdminClient

from tests.integration.installation import (
    HERE,
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders
from topics.spec import staging

MORE = """
  - {name: Fresh, when: {event: Visited, within: 60s}}
  - {name: Watched, when: {event: Watched}}
  - {name: Picky, when: {event: Tasted}, facebook: {ad_account_id: act_2}}
"""


def installation_of(bootstrap_servers: str, prefix: str) -> Installation:
    settings = {"AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000"}
    return Installation(bootstrap_servers, prefix, AUDIENCES + MORE, settings=settings)


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


def killed_behind(installation: Installation, target: int, step: str) -> subprocess.CompletedProcess[str]:
    return installation.execute(sys.executable, str(HERE / "crashing_repartition.py"), str(target), step)


def assert_run_again_behind(installation: Installation, steps: tuple[str, ...]) -> None:
    """Killed behind each of these, at most three: nothing else runs until it has been run again, and nothing is lost."""
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
        killed = killed_behind(installation, target, step)
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


def topics(installation: Installation) -> set[str]:
    admin = AdminClient({"bootstrap.servers": installation.bootstrap_servers})
    return set(admin.list_topics(timeout=30).topics)
