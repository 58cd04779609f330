"""`events` and `validate --kafka` against a real topic."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.source_survey import newest
from app.commands import main
from topics.spec import DAY_MS, Cleanup, TopicSpec

Run = Callable[..., tuple[object, str, str]]


def test_the_newest_records_of_uneven_partitions() -> None:
    firsts, ends = {0: 0, 1: 10, 2: 0}, {0: 100, 1: 12, 2: 0}
    assert newest(firsts, ends, 10) == {2: (0, 0), 1: (10, 12), 0: (92, 100)}
    assert newest(firsts, ends, 1_000) == {2: (0, 0), 1: (10, 12), 0: (0, 100)}
    assert newest({0: 0, 1: 0}, {0: 9, 1: 9}, 3) == {0: (8, 9), 1: (7, 9)}


@pytest.fixture
def source(bootstrap_servers: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A source topic that keeps 7 days, in the settings of this process; 50 records of it are of before."""
    name = f"{topic_prefix}source"
    spec = TopicSpec(name, "any", "JSON", Cleanup.DELETE, partitions=3, retention_ms=7 * DAY_MS, ours=False)
    TopicAdmin(bootstrap_servers, 3, -1).ensure((spec,))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("AUDIENCE_SYNC_SOURCE_TOPIC", name)
    return name


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["audience-sync", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return ran


def produce(bootstrap_servers: str, topic: str, records: list[bytes]) -> None:
    producer = DurableProducer(bootstrap_servers)
    for number, record in enumerate(records):
        producer.produce(topic, record, None, number % 3)
    producer.flush()


def test_events_and_definitions_of_a_topic(
    bootstrap_servers: str, source: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("audiences: [{name: A, when: {event: Ordr, within: 30d}}]", encoding="utf-8")
    status, out, err = run("validate", str(file), "--kafka")
    assert status == 0
    assert "holds no records" in err
    old = [json.dumps({"type": "track", "event": "Old"}).encode()] * 30
    order = {"type": "track", "event": "Order", "properties": {"email": "ann@example.com", "a@b.c": 1}}
    produce(bootstrap_servers, source, [*old, *[json.dumps(order).encode()] * 29, b"broken"])
    status, out, err = run("events", "--last", "30", "--json")
    assert (status, err) == (0, "")
    shown = json.loads(out)
    assert (shown["records"], shown["unreadable"]) == (30, 1)
    assert [(one["event"], one["count"]) for one in shown["events"]] == [("Order", 29)]
    status, out, err = run("events")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "60 records: track 59",
        "1 of them are no calls",
        "Old: 30",
        "Order: 29",
        "  (masked)  100.0%  number",
        "  email  100.0%  text",
    ]
    status, out, err = run("validate", str(file), "--kafka")
    assert status == 0
    assert err.splitlines() == [
        (
            "warning: audience a: asks for events of the last 30d, and the source topic keeps 7d: older events count only "
            "once the system has seen them itself"
        ),
        (
            "warning: audience a: the event `Ordr` was not seen; did you mean `Order`? "
            f"(newest 60 records of {source})"
        ),
    ]
    # Without being asked to, it does not look.
    assert run("validate", str(file)) == (0, out, "")


def test_a_topic_that_is_not_there(source: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_SOURCE_TOPIC", f"{source}.missing")
    status, out, err = run("events")
    assert (status, out) == (2, "")
    assert f"there is no topic {source}.missing" in err
    status, out, err = run("produce", os.devnull)
    assert (status, out) == (2, "")
    assert f"there is no topic {source}.missing: create it with `audience-sync topics`, or" in err
    # Which makes those of the settings alone.
    status, out, err = run("produce", os.devnull, "--topic", f"{source}.other")
    assert (status, out) == (2, "")
    assert f"there is no topic {source}.other: create it with Kafka's own tools, or" in err
