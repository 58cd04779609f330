"""Rows of a topic of their own beside the source topic: workers that die, definitions that name a topic later."""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.adapters.kafka_topics import TopicAdmin
from tests.integration.installation import Installation, assert_unbroken, members_of, wait_until
from tests.integration.topic_records import Place, RawRecord, write_records

PEOPLE = 60
BUYERS = "  - {name: Buyers, when: {event: new, count: {at_least: 1}, within: 30d}}"
CHOSEN = "  - {name: Chosen, source: reverse_etl, rows: {where: {$.properties.list: chosen}}}"
LEADS = "  - {name: Leads, source: reverse_etl, rows: {topic: TOPIC, id: $.properties.id}}"
Calls = list[dict[str, Any]]


def definitions(*audiences: str, topic: str) -> str:
    return "\n".join(("audiences:", *audiences, "")).replace("TOPIC", topic)


def made_calls(count: int, seed: int) -> Calls:
    """Track calls named as rows, a minute apart, up to now; about one in three is of the list `chosen`."""
    chance, end = random.Random(seed), datetime.now(UTC)
    calls: Calls = []
    for number in range(count):
        at = (end - timedelta(minutes=count - number)).isoformat().replace("+00:00", "Z")
        person = f"user_{chance.randrange(PEOPLE)}"
        properties = {"id": person, "list": chance.choice(["chosen", "a", "b"])}
        event = chance.choice(["new", "updated", "deleted"])
        call = {"type": "track", "event": event, "userId": person, "messageId": f"{seed}-{number}"}
        calls.append({**call, "properties": properties, "timestamp": at, "receivedAt": at})
    return calls


def last_said(calls: Calls) -> set[str]:
    """Whoever the newest row puts in."""
    newest = {call["userId"]: call["event"] for call in calls}
    return {person for person, event in newest.items() if event != "deleted"}


def expected(source: Calls, rows: Calls) -> dict[str, set[str]]:
    chosen = [call for call in source if call["properties"]["list"] == "chosen"]
    others = [call for call in source if call["properties"]["list"] != "chosen"]
    return {
        "buyers": {call["userId"] for call in others if call["event"] == "new"},
        "chosen": last_said(chosen),
        "leads": last_said(rows),
    }


def of_own(bootstrap_servers: str, audiences: tuple[str, ...]) -> Iterator[tuple[Installation, str]]:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    topic = f"{prefix}warehouse"
    made = Installation(bootstrap_servers, prefix, definitions(*audiences, topic=topic))
    try:
        yield made, topic
    finally:
        made.close()


@pytest.fixture
def both(bootstrap_servers: str) -> Iterator[tuple[Installation, str]]:
    yield from of_own(bootstrap_servers, (BUYERS, CHOSEN, LEADS))


@pytest.fixture
def later(bootstrap_servers: str) -> Iterator[tuple[Installation, str]]:
    yield from of_own(bootstrap_servers, (BUYERS, CHOSEN))


def create(installation: Installation, topic: str, partitions: int) -> None:
    """As whoever writes the rows does."""
    spec = installation.catalog.rows(topic)
    TopicAdmin(installation.bootstrap_servers, partitions, -1).ensure((spec,))


def write_rows(installation: Installation, topic: str, calls: Calls, partitions: int) -> list[Place]:
    records = [
        RawRecord(json.dumps(call).encode(), None, int(call["userId"].removeprefix("user_")) % partitions)
        for call in calls
    ]
    return write_records(installation.bootstrap_servers, topic, records)


def filled(installation: Installation, version: int) -> bool:
    found = json.loads(installation.command("audiences", "list", "--json").stdout)
    return set(found["running"].values()) == {version} and found["filling"] == []


def assert_missed(installation: Installation, topic: str) -> None:
    """Whoever looks at the topic of the rows says that it is not there."""
    text = f"audience leads: `rows: {{topic: {topic}}}`: there is no such topic"
    checked = installation.command("validate", "--kafka")
    assert (checked.returncode, text in checked.stderr) == (2, True), checked.stderr
    checks = json.loads(installation.command("doctor", "--json").stdout)["checks"]
    (finding,) = [check for check in checks if check["check"] == f"topic {topic}"]
    assert finding["status"] == "failed"
    worker = installation.start_worker()
    assert worker.ended() == 2
    assert text in worker.said


def test_an_audience_from_each_topic_and_a_worker_that_is_killed(both: tuple[Installation, str]) -> None:
    installation, topic = both
    assert_missed(installation, topic)
    create(installation, topic, 3)
    assert installation.command("validate", "--kafka").returncode == 0
    source, rows = made_calls(1_500, 1), made_calls(1_500, 2)
    installation.produce(source[:700])
    write_rows(installation, topic, rows[:900], 3)
    dies = installation.start_worker(at=("evaluate.flush", 3, signal.SIGKILL))
    assert dies.ended() == -signal.SIGKILL
    workers = [installation.start_worker() for _ in range(2)]
    installation.produce(source[700:])
    write_rows(installation, topic, rows[900:1_200], 3)
    wait_until(workers[0].ready, lambda: workers[0].said)
    workers[1].stop(signal.SIGKILL)
    write_rows(installation, topic, rows[1_200:], 3)
    (bad,) = write_records(installation.bootstrap_servers, topic, [RawRecord(b"no call", None, 1)])
    workers[1] = installation.start_worker()
    installation.wait_until_idle(*workers)
    deltas = installation.memberships()
    assert_unbroken(deltas)
    assert members_of(deltas) == expected(source, rows)
    letters = {letter["id"]: letter["origin"] for letter in installation.dead_letters()}
    places = [(origin["topic"], origin["partition"], origin["offset"]) for origin in letters.values()]
    assert places == [(topic, bad.partition, bad.offset)]
    replayed = installation.command("dead-letters", "replay", "--reason", "invalid_json", "--json")
    assert json.loads(replayed.stdout)["failed"] == 1, replayed.stdout


@pytest.mark.parametrize("instance", [None, "slot-0"], ids=["dynamic", "static"])
def test_a_topic_that_is_named_while_the_worker_runs(
    later: tuple[Installation, str], instance: str | None
) -> None:
    installation, topic = later
    if instance is not None:
        # Long enough to come back within, without a new assignment of the group.
        installation.settings["AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS"] = "20"
    source, rows = made_calls(300, 1), made_calls(300, 2)
    installation.produce(source[:200])
    worker = installation.start_worker(instance=instance)
    installation.wait_until_idle(worker)
    audiences = definitions(BUYERS, CHOSEN, LEADS, topic=topic)
    refused = installation.apply(audiences)
    assert refused.returncode == 2
    assert f"audience leads: `rows: {{topic: {topic}}}`: there is no such topic" in refused.stderr
    create(installation, topic, 2)
    write_rows(installation, topic, rows[:200], 2)
    applied = installation.apply(audiences)
    assert applied.returncode == 0, applied.stderr
    assert "added leads" in applied.stdout
    assert worker.ended() == 1
    assert f"audience leads takes its rows from topic {topic}" in worker.said

    def supervised() -> bool:
        """Started again until it stays, as by a supervisor."""
        nonlocal worker
        if worker.process.poll() is not None:
            assert worker.process.returncode == 1, worker.said
            worker = installation.start_worker(instance=instance)
        return worker.idle()

    wait_until(supervised, lambda: worker.said, every=0.5)
    wait_until(lambda: filled(installation, 2), lambda: worker.said, every=1)
    installation.produce(source[200:])
    write_rows(installation, topic, rows[200:], 2)
    installation.wait_until_idle(worker)
    deltas = installation.memberships()
    assert_unbroken(deltas)
    assert members_of(deltas) == expected(source, rows)
