"""Workers on a real Kafka and `simulate` say the same of the same calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.adapters.clock import SystemClock
from tests.integration.installation import (
    AUDIENCE_SYNC,
    ROOT,
    Installation,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.journeys import AUDIENCES, KEYS, SourceCall, make_calls, text_of
from tests.integration.topic_records import RawRecord
from topics.partitioning import partition_for

Transition = tuple[str, str, str, bool]


@contextmanager
def installed(bootstrap_servers: str, prefix: str, source_partitions: int) -> Iterator[Installation]:
    made = Installation(bootstrap_servers, prefix, AUDIENCES, source_partitions=source_partitions)
    try:
        yield made
    finally:
        made.close()


def simulated(folder: Path, calls: list[SourceCall], until: int) -> list[Transition]:
    audiences, events = folder / "audiences.yaml", folder / "events.ndjson"
    audiences.write_text(AUDIENCES)
    events.write_text("".join(json.dumps(call.body) + "\n" for call in calls))
    command = [*AUDIENCE_SYNC, "simulate", "--audiences", str(audiences), "--events", str(events)]
    done = subprocess.run(
        [*command, "--until", text_of(until)], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line["at"], line["audience"], line["profile"], line["member"]) for line in lines]


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


def netted(deltas: list[dict[str, Any]], until: int) -> set[tuple[int, str, str, bool]]:
    """Of all deltas of one instant, audience and profile only what they come to; instants up to `until`."""
    before: dict[tuple[int, str, str], bool] = {}
    after: dict[tuple[int, str, str], bool] = {}
    for delta in deltas:
        if delta["change"] == "updated" or delta["at"] > until:
            continue
        key = (delta["at"], delta["audience"], delta["profile"].removeprefix("anonymous_id:"))
        member = delta["change"] == "entered"
        before.setdefault(key, not member)
        after[key] = member
    return {(*key, member) for key, member in after.items() if before[key] != member}


def final_members(transitions: list[Transition]) -> dict[str, set[str]]:
    members: dict[str, set[str]] = {}
    for _, audience, profile, member in transitions:
        (members.setdefault(audience, set()).add if member else members.setdefault(audience, set()).discard)(
            profile
        )
    return members


@pytest.mark.parametrize("jitter", [0, 4 * 3_600_000], ids=["received in order", "received out of order"])
def test_the_same_transitions_from_one_source_partition(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path, jitter: int
) -> None:
    now = SystemClock().now_ms()
    calls = make_calls(4_000, 250, now, seed=7 + jitter, jitter=jitter)
    expected = simulated(tmp_path, calls, now)
    assert {audience for _, audience, _, _ in expected} == KEYS, "every audience changes, or little is compared"
    with installed(bootstrap_servers, topic_prefix, source_partitions=1) as installation:
        installation.produce_raw(source_records(calls, 1))
        worker = installation.start_worker()
        installation.wait_until_idle(worker)
        deltas = installation.memberships()
    assert_unbroken(deltas)
    found = {(text_of(at).replace(".000Z", "Z"), *rest) for at, *rest in netted(deltas, now)}
    names = mailed(deltas)
    found = {(at, audience, names.get(profile, profile), member) for at, audience, profile, member in found}
    assert found == set(expected)
    assert len(found) == len(expected)
