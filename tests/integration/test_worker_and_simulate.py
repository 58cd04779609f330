"""Workers on a real Kafka and `simulate` say the same of the same calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.adapters.clock import SystemClock
from app.domain.instants import format_instant
from tests.integration.installation import (
    AUDIENCE_SYNC,
    ROOT,
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.journeys import AUDIENCES, HOUR, KEYS, SourceCall, device_names, make_calls, text_of
from tests.integration.topic_records import RawRecord
from topics.partitioning import partition_for

PEOPLE = 250
EARLY_MS = 5_000

Transition = tuple[str, str, str, bool]


@contextmanager
def installed(bootstrap_servers: str, prefix: str, source_partitions: int) -> Iterator[Installation]:
    with closing(
        Installation(bootstrap_servers, prefix, AUDIENCES, source_partitions=source_partitions)
    ) as made:
        yield made


def simulated(folder: Path, calls: list[SourceCall], until: int) -> list[Transition]:
    audiences, events = folder / "audiences.yaml", folder / "events.ndjson"
    audiences.write_text(AUDIENCES)
    events.write_text("".join(json.dumps(call.body) + "\n" for call in calls))
    command = [*AUDIENCE_SYNC, "simulate", "--audiences", str(audiences), "--events", str(events)]
    done = subprocess.run(
        [*command, "--until", text_of(until)], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    names = device_names(PEOPLE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        (line["at"], line["audience"], names.get(line["profile"], line["profile"]), line["member"])
        for line in lines
    ]


def source_records(calls: list[SourceCall], partitions: int) -> list[RawRecord]:
    return [
        RawRecord(
            json.dumps(call.body).encode(),
            call.person.encode(),
            partition_for(call.person.encode(), partitions),
            call.received,
        )
        for call in calls
    ]


def netted(deltas: list[dict[str, Any]], until: int) -> list[Transition]:
    """Of all deltas of one instant, audience and profile only what they come to; instants up to `until`."""
    before: dict[tuple[int, str, str], bool] = {}
    after: dict[tuple[int, str, str], bool] = {}
    for delta in deltas:
        if delta["change"] == "updated" or delta["at"] > until:
            continue
        key = (delta["at"], delta["audience"], delta["profile"])
        member = delta["change"] == "entered"
        before.setdefault(key, not member)
        after[key] = member
    return [
        (format_instant(at), audience, profile, member)
        for (at, audience, profile), member in after.items()
        if before[at, audience, profile] != member
    ]


def final_members(transitions: list[Transition]) -> dict[str, set[str]]:
    members: dict[str, set[str]] = {}
    for _, audience, profile, member in transitions:
        (members.setdefault(audience, set()).add if member else members.setdefault(audience, set()).discard)(
            profile
        )
    return members


@pytest.mark.parametrize("jitter", [0, 4 * HOUR], ids=["received in order", "received out of order"])
def test_the_same_transitions_from_one_source_partition(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path, jitter: int
) -> None:
    now = SystemClock().now_ms()
    calls = make_calls(4_000, PEOPLE, now, seed=7, jitter=jitter)
    expected = simulated(tmp_path, calls, now)
    assert {audience for _, audience, _, _ in expected} == KEYS, (
        "every audience changes, or little is compared"
    )
    with installed(bootstrap_servers, topic_prefix, source_partitions=1) as installation:
        installation.produce_raw(source_records(calls, 1))
        worker = installation.start_worker()
        installation.wait_until_idle(worker)
        deltas = installation.memberships()
    assert_unbroken(deltas)
    assert named_members(deltas) == final_members(expected)
    # Whose anonymous id and e-mail are in two partitions becomes one person when the records between them have come:
    # of what was received long ago that is later than `simulate` says.
    alone = [transition for transition in expected if transition[2].startswith("user_")]
    found = [transition for transition in netted(deltas, now) if transition[2].startswith("user_")]
    assert differences(lasting(found), lasting(alone)) == []


def named_members(deltas: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Members by the newest deltas, people without a user id by their device."""
    names = device_names(PEOPLE)
    return {
        audience: {names.get(profile, profile.removeprefix("anonymous_id:")) for profile in profiles}
        for audience, profiles in members_of(deltas).items()
    }


def members_here(worker: WorkerProcess) -> int:
    """How many memberships the partitions of this worker hold; 0 while it does not answer."""
    stats = worker.stats()
    return 0 if stats is None else sum(audience["members"] for audience in stats["audiences"].values())


def lasting(transitions: list[Transition]) -> list[Transition]:
    """Without those that are undone within five seconds.

    The worker may count a call up to five seconds before its timestamp; what such a call ends so soon need never
    have begun.
    """
    by_member: dict[tuple[str, str], list[Transition]] = {}
    for transition in sorted(transitions, key=instant_of):
        mine = by_member.setdefault(transition[1:3], [])
        if mine and instant_of(transition) - instant_of(mine[-1]) < EARLY_MS:
            mine.pop()
        else:
            mine.append(transition)
    kept = [transition for mine in by_member.values() for transition in mine]
    assert len(transitions) - len(kept) < len(transitions) / 50, "too few are left to say much"
    return kept


def instant_of(transition: Transition) -> int:
    return round(datetime.fromisoformat(transition[0]).timestamp() * 1000)


def differences(found: list[Transition], expected: list[Transition]) -> list[str]:
    """The first of them, so that a failure can be read."""
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return [f"missing: {one}" for one in missing[:5]] + [f"unexpected: {one}" for one in unexpected[:5]]


def test_the_same_members_with_four_source_partitions_and_two_workers(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> None:
    now = SystemClock().now_ms()
    calls = make_calls(6_000, PEOPLE, now, seed=11)
    expected = final_members(simulated(tmp_path, calls, now))
    assert expected.keys() == KEYS
    assert all(expected.values())
    with installed(bootstrap_servers, topic_prefix, source_partitions=4) as installation:
        first = installation.start_worker()
        second = installation.start_worker()
        installation.produce_raw(source_records(calls, 4))
        wait_until(lambda: first.ready() and second.ready(), lambda: first.said + second.said)
        installation.wait_until_idle(first, second)
        assert all(members_here(worker) for worker in (first, second)), "one did all the work"
        deltas = installation.memberships()
    assert_unbroken(deltas)
    assert named_members(deltas) == expected
