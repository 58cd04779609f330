"""What a worker refuses to start with, what it waits for, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.adapters.kafka_embedded import EmbeddedKafka, free_port
from app.commands import audiences as audiences_command
from app.commands import events as events_command
from app.commands import main, produce, topics, validate
from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders

STOP_SECONDS = 10.0


def new_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture(scope="module")
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    """Its definitions are published, and no worker runs."""
    with closing(Installation(bootstrap_servers, new_prefix(), AUDIENCES)) as made:
        first = made.start_worker()
        wait_until(first.ready, lambda: first.said)
        assert first.stop() == 0
        yield made


@pytest.fixture
def refuses(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Runs the command in this process: status 2, everything to the point, and nothing of Python."""

    def assert_refuses(settings: dict[str, str], *words: str) -> None:
        for name, value in {**installation.environment(free_port(), None), **settings}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["audience-sync", "worker"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2, said.err
        assert [word for word in words if word not in said.err] == [], said.err
        assert "Traceback" not in said.err
        assert said.out == ""

    return assert_refuses


# -- definitions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unusable:
    """`words`: the line, the key, what was expected."""

    audiences: str
    words: tuple[str, ...]


UNUSABLE = {
    "no YAML": Unusable("audiences:\n  - {name: A, when: [}\n", (":2",)),
    "an unknown key": Unusable(
        "audiences:\n  - name: A\n    when: {event: X}\n    colour: red\n", (":4", "colour", "description")
    ),
    "a misspelled duration": Unusable(
        "audiences:\n  - name: A\n    when: {event: X, within: 30 days}\n", (":3", "within", "30d")
    ),
    "a text for a number": Unusable(
        "audiences:\n  - name: A\n    when: {event: X, count: {at_least: some}}\n",
        (":3", "at_least", "number"),
    ),
    "two problems at once": Unusable(
        "audiences:\n  - {name: A, when: {event: X, within: 1y}}\n  - {name: B, when: {evnt: X}}\n",
        (":2", "within", ":3", "did you mean `event`"),
    ),
    "events of an account": Unusable(
        "audiences:\n  - {name: A, when: {event: X}, entity: account}\n",
        (":2", "an account has no events of its own"),
    ),
}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_refuses_unusable_definitions(
    refuses: Callable[..., None], tmp_path: Path, unusable: Unusable
) -> None:
    file = tmp_path / "audiences.yaml"
    file.write_text(unusable.audiences)
    refuses({"AUDIENCE_SYNC_AUDIENCES": str(file)}, str(file), *unusable.words)


OTHER = {
    "audience recent: changing `facebook.value_based`": AUDIENCES.replace(
        "{name: Recent,", "{name: Recent, facebook: {value_based: true, fields: {value: $.traits.worth}},"
    ),
}
"""What is refused of definitions that are not the published ones."""


def test_refuses_changes_that_cannot_be_made_and_other_partitions_than_there_are(
    installation: Installation, tmp_path: Path
) -> None:
    refused: dict[tuple[str, ...], WorkerProcess] = {}
    for number, (words, text) in enumerate(OTHER.items()):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        settings = {"AUDIENCE_SYNC_AUDIENCES": str(file)}
        refused[(words,)] = installation.start_worker(settings=settings)
    partitions = ("profile.events has 4 partitions", "8 are configured", "AUDIENCE_SYNC_PARTITIONS")
    refused[partitions] = installation.start_worker(settings={"AUDIENCE_SYNC_PARTITIONS": "8"})
    for expected, worker in refused.items():
        assert worker.ended() == 2, worker.said
        assert [word for word in expected if word not in worker.said] == [], worker.said
        assert "Traceback" not in worker.said
        assert "ready" not in worker.said.split()


def test_deletes_nothing_that_its_file_leaves_out(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "audiences.yaml"
    file.write_text("audiences:\n  - {name: Recent, when: {event: Order Completed, within: 30d}}\n")
    worker = installation.start_worker(settings={"AUDIENCE_SYNC_AUDIENCES": str(file)})
    wait_until(worker.ready, lambda: worker.said)
    assert f"{file}: leaves out lapsed, spenders, two_orders" in worker.said
    assert "version 1 of the definitions runs" in worker.said
    assert set((worker.stats() or {})["audiences"]) == set(NAMES)
    assert worker.stop() == 0


def test_takes_published_definitions_in_other_words(installation: Installation, tmp_path: Path) -> None:
    """The order of audiences and keys means nothing, nor do comments."""
    head, *audiences = AUDIENCES.strip().splitlines()
    file = tmp_path / "audiences.yaml"
    file.write_text("\n".join(["# the same", head, *reversed(audiences)]))
    worker = installation.start_worker(settings={"AUDIENCE_SYNC_AUDIENCES": str(file)})
    wait_until(worker.ready, lambda: worker.said)
    assert worker.stop() == 0


# -- settings ------------------------------------------------------------------------------------------------------

SETTINGS = {
    "no such file": (
        {"AUDIENCE_SYNC_AUDIENCES": "/nowhere/audiences.yaml"},
        ("/nowhere/audiences.yaml", "no such"),
    ),
    "no token": ({"FACEBOOK_ACCESS_TOKEN": ""}, ("FACEBOOK_ACCESS_TOKEN", "not set")),
    "a token file that is not there": (
        {"FACEBOOK_ACCESS_TOKEN": "", "FACEBOOK_ACCESS_TOKEN_FILE": "/nowhere/token"},
        ("FACEBOOK_ACCESS_TOKEN_FILE", "/nowhere/token"),
    ),
    "no number": ({"AUDIENCE_SYNC_PARTITIONS": "many"}, ("AUDIENCE_SYNC_PARTITIONS", "whole number")),
    "an unknown mode": (
        {"AUDIENCE_SYNC_FACEBOOK_MODE": "wet_run"},
        ("AUDIENCE_SYNC_FACEBOOK_MODE", "dry_run"),
    ),
    "no ad account": (
        {"AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID": "act_x"},
        ("AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID", "act_1234567890"),
    ),
    "pages for everybody": (
        {"AUDIENCE_SYNC_WEB_HOST": "0.0.0.0"},  # noqa: S104 - what is refused
        ("0.0.0.0", "AUDIENCE_SYNC_WEB_TOKEN_FILE"),  # noqa: S104 - as above
    ),
    "a settings file that is not there": (
        {"AUDIENCE_SYNC_SETTINGS": "/nowhere.toml"},
        ("/nowhere.toml", "no file"),
    ),
}


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_refuses_unusable_settings(
    refuses: Callable[..., None], settings: dict[str, str], words: tuple[str, ...]
) -> None:
    refuses(settings, *words)


def test_refuses_a_port_that_another_program_listens_on(installation: Installation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        worker = installation.start_worker(settings={"AUDIENCE_SYNC_WEB_PORT": str(port)})
        assert worker.ended() == 2
    assert "AUDIENCE_SYNC_WEB_PORT" in worker.said
    assert str(port) in worker.said
    assert "Traceback" not in worker.said


# -- what it waits for ---------------------------------------------------------------------------------------------


def test_waits_for_kafka_in_plain_words(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], bootstrap_servers: str
) -> None:
    port = free_port()
    installation = Installation(f"127.0.0.1:{port}", new_prefix(), AUDIENCES, partitions=2, with_topics=False)
    try:
        worker = installation.start_worker()
        wait_until(lambda: "Kafka does not answer" in worker.said, lambda: worker.said)
        embedded_kafka_factory(port=port)
        wait_until(worker.ready, lambda: worker.said)
        orders = make_orders(count=50, users=30, days=100)
        installation.produce(as_events(orders))
        expected = {NAMES[key]: members for key, members in expected_members(orders).items()}
        wait_until(lambda: facebook_has(installation, expected), lambda: worker.said)
        assert worker.stop() == 0
        said = worker.said
    finally:
        installation.close()
    assert said.count("Kafka does not answer") == 1
    assert f"127.0.0.1:{port}" in said
    assert "KAFKA_BOOTSTRAP_SERVERS" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 3, "start, state changes, no more"


def facebook_has(installation: Installation, members: dict[str, set[str]]) -> bool:
    """Audiences without members are not compared: they may be there already or not yet."""
    found = installation.facebook_members()
    return {name: people for name, people in found.items() if people} == {
        name: people for name, people in members.items() if people
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics"],
        ["produce", "EVENTS"],
        ["events"],
        ["validate", "AUDIENCES", "--kafka"],
        ["audiences", "list"],
    ],
    ids=["topics", "produce", "events", "validate", "audiences"],
)
def test_commands_give_up_after_a_while_without_kafka(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.ndjson"
    events.write_text("{}\n")
    audiences = tmp_path / "audiences.yaml"
    audiences.write_text(AUDIENCES)
    for module in (topics, produce, events_command, validate, audiences_command):
        assert module.UNREACHABLE_SECONDS == 30.0
        monkeypatch.setattr(module, "UNREACHABLE_SECONDS", 0.5)
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", address)
    files = {"EVENTS": str(events), "AUDIENCES": str(audiences)}
    words = [files.get(argument, argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["audience-sync", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 3
    assert said.out == ""
    assert "Kafka does not answer" in said.err
    assert address in said.err


def test_loses_nothing_while_facebook_cannot_be_reached(bootstrap_servers: str) -> None:
    installation = Installation(bootstrap_servers, new_prefix(), AUDIENCES)
    try:
        installation.stop_sandbox()
        worker = installation.start_worker()
        orders = make_orders(count=500, users=100, days=150)
        installation.produce(as_events(orders))
        wait_until(lambda: all_say(worker, "Facebook cannot be reached"), lambda: shown(worker))
        installation.start_sandbox()
        expected = {NAMES[key]: members for key, members in expected_members(orders).items()}
        wait_until(lambda: facebook_has(installation, expected), lambda: shown(worker))
        installation.wait_until_idle(worker)
        assert set(reasons(worker).values()) == {None}
        assert installation.dead_letters() == []
        assert "Traceback" not in worker.said
    finally:
        installation.close()


def reasons(worker: WorkerProcess) -> dict[str, str | None]:
    assert worker.process.poll() is None, worker.said
    audiences = (worker.stats() or {"audiences": {}})["audiences"]
    return {key: one["reason"] for key, audience in audiences.items() for one in audience["destinations"]}


def all_say(worker: WorkerProcess, words: str) -> bool:
    said = reasons(worker)
    return said.keys() == NAMES.keys() and all(
        reason is not None and words in reason for reason in said.values()
    )


def shown(worker: WorkerProcess) -> str:
    return f"{worker.said}\n{worker.stats()}"


# -- how it stops --------------------------------------------------------------------------------------------------


def assert_stops(worker: WorkerProcess, number: signal.Signals, status: int) -> None:
    """Within ten seconds, and with nothing to say for it."""
    worker.process.send_signal(number)
    try:
        assert worker.process.wait(STOP_SECONDS) == status, worker.said
    except subprocess.TimeoutExpired:
        pytest.fail(f"it goes on:\n{worker.said}")
    assert "Traceback" not in worker.said
    assert "ended" not in worker.said


def test_stops_while_kafka_does_not_answer(installation: Installation) -> None:
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    worker = installation.start_worker(settings=nowhere)
    wait_until(lambda: "does not answer" in worker.said, lambda: worker.said)
    assert_stops(worker, signal.SIGTERM, 0)


def test_stops_while_it_starts(installation: Installation) -> None:
    worker = installation.start_worker()
    wait_until(lambda: worker.stats() is not None, lambda: worker.said, every=0.02)
    assert_stops(worker, signal.SIGTERM, 0)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_stops_when_idle(installation: Installation, number: signal.Signals, status: int) -> None:
    worker = installation.start_worker()
    installation.wait_until_idle(worker)
    assert_stops(worker, number, status)


def test_stops_while_it_works_off_a_backlog_and_loses_nothing(bootstrap_servers: str) -> None:
    orders = make_orders(count=15_000, users=2_000, days=150)
    installation = Installation(bootstrap_servers, new_prefix(), AUDIENCES)
    try:
        installation.produce(as_events(orders))
        worker = installation.start_worker(settings={"AUDIENCE_SYNC_POLL_RECORDS": "50"})
        wait_until(lambda: evaluated(worker) > 0, lambda: shown(worker), every=0.02)
        assert evaluated(worker) < len(orders), "it was too fast for this test"
        assert_stops(worker, signal.SIGTERM, 0)
        successor = installation.start_worker()
        installation.wait_until_idle(successor)
        expected, deltas = expected_members(orders), installation.memberships()
        assert_unbroken(deltas)
        assert members_of(deltas) == expected
        assert facebook_has(installation, {NAMES[key]: members for key, members in expected.items()})
    finally:
        installation.close()


def test_stops_while_facebook_hangs(installation: Installation) -> None:
    installation.fault({"delay_ms": 60_000}, path="/users")
    try:
        worker = installation.start_worker(settings={"AUDIENCE_SYNC_FACEBOOK_TIMEOUT_SECONDS": "60"})
        wait_until(worker.ready, lambda: worker.said)
        installation.produce(as_events(make_orders(count=20, users=20, days=20)))
        wait_until(lambda: users_calls(installation) > 0, lambda: shown(worker))
        assert_stops(worker, signal.SIGTERM, 0)
    finally:
        installation.clear_faults()


def users_calls(installation: Installation) -> int:
    return sum(request["path"].endswith("/users") for request in installation.sandbox_get("requests"))


def evaluated(worker: WorkerProcess) -> int:
    stats = worker.stats()
    return 0 if stats is None else int(stats["stages"]["evaluate"]["in"])
