"""dead-letters list, show and replay, against real Kafka and with a worker that goes on meanwhile."""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_client import client_config
from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.topic_records import Place, RawRecord, write_records

AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed}, facebook: {ad_account_id: act_1}}
  - {name: Spenders, when: {event: Order Completed, sum: {property: revenue, at_least: 8}}}
  - {name: Picky, when: {event: Tasted}, facebook: {ad_account_id: act_2}}
  - {name: Pros, when: {trait: plan, equals: pro}, facebook: {ad_account_id: act_3}}
"""
SMALL, LARGE = "1024", "32768"
FAR_TOO_LARGE = 2_000
USERS = 12


def order(user: str, message: str, note: int = 0) -> bytes:
    call = {
        "type": "track",
        "event": "Order Completed",
        "userId": user,
        "messageId": message,
        "properties": {"revenue": 5, "note": "x" * note},
    }
    return json.dumps(call).encode()


@dataclass
class Run:
    installation: Installation
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def worker(self) -> WorkerProcess:
        return self.workers[-1]

    def start(self, limit: str) -> None:
        settings = {"AUDIENCE_SYNC_MAX_EVENT_BYTES": limit}
        self.workers.append(self.installation.start_worker(instance="slot", settings=settings))
        self.rest()

    def stop(self) -> None:
        assert self.worker.stop() == 0

    def rest(self) -> None:
        self.installation.wait_until_idle(self.worker)

    def letters(self, *filters: str) -> list[dict[str, Any]]:
        listed = self.installation.command("dead-letters", "list", "--json", *filters)
        assert listed.returncode == 0, listed.stderr
        document = json.loads(listed.stdout)
        assert document["total"] == len(document["letters"])
        assert document["reasons"] == Counter(letter["reason"] for letter in document["letters"])
        return list(document["letters"])

    def replay(self, *options: str, status: int = 0) -> dict[str, Any]:
        """What is waiting is tried again until the worker has said that it is done with it."""
        documents: list[dict[str, Any]] = []

        def nothing_waits() -> bool:
            documents.append(self._replay(options, status))
            return bool(documents[-1]["waiting"] == 0)

        wait_until(nothing_waits, lambda: f"{documents[-1]}\n{self.worker.said}", every=0.5)
        return documents[-1]

    def _replay(self, options: tuple[str, ...], status: int) -> dict[str, Any]:
        done = self.installation.command("dead-letters", "replay", "--json", *options)
        assert done.returncode == status, (done.stdout, done.stderr)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def members(self, audience: str) -> set[str]:
        return members_of(self.installation.memberships()).get(audience, set())

    def wait(self, condition: Any) -> None:
        wait_until(condition, lambda: f"{self.worker.said}\n{self.worker.stats()}")

    def all_letters(self, stage: str) -> set[str]:
        """Ids, however often each was written, and whatever became of it."""
        return {one["id"] for one in self.installation.dead_letters() if one["stage"] == stage}

    def committed(self, partition: int, topic: str | None = None) -> int:
        """The group's offset."""
        catalog = self.installation.catalog
        consumer = Consumer(client_config(self.installation.bootstrap_servers, group_id=catalog.app_id))
        try:
            asked = TopicPartition(topic or catalog.source_topic, partition)
            return int(consumer.committed([asked], timeout=20)[0].offset)
        finally:
            consumer.close()

    def bury_in(self, topic: str, number: int) -> list[Place]:
        """Records that no stage can read, in partition 0 of one of our topics."""
        servers = self.installation.bootstrap_servers
        return write_records(servers, topic, [RawRecord(b"never an event", b"x", 0) for _ in range(number)])

    def destination(self, audience: str) -> dict[str, Any]:
        stats = self.worker.stats()
        assert stats is not None
        found: dict[str, Any] = stats["audiences"][audience]["destinations"][0]
        return found


@pytest.fixture(scope="module")
def run(bootstrap_servers: str) -> Iterator[Run]:
    installation = Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)
    try:
        yield Run(installation)
    finally:
        installation.close()


LOST = [f"lost_{number}" for number in range(USERS)]
TWICE = [f"twice_{number}" for number in range(USERS)]


@pytest.fixture(scope="module")
def buried(run: Run) -> list[Place]:
    """Too large for the worker: one order of each who is lost, and the second of each who has one already. Of the
    latter every other one has come in otherwise, under the same message id.
    """
    run.start(SMALL)
    records = [RawRecord(order(user, f"{user}-1"), user.encode(), n % 2) for n, user in enumerate(TWICE)]
    records += [
        RawRecord(order(user, f"{user}-1", FAR_TOO_LARGE), user.encode(), n % 2)
        for n, user in enumerate(LOST)
    ]
    records += [
        RawRecord(order(user, f"{user}-{1 + n % 2}", FAR_TOO_LARGE), user.encode(), n % 2)
        for n, user in enumerate(TWICE)
    ]
    records += [RawRecord(b"never a call", b"nobody", 0)]
    places = run.installation.produce_raw(records)
    run.rest()
    return places


def test_what_could_not_be_read_is_listed_and_shown(run: Run, buried: list[Place]) -> None:
    letters = run.letters("--stage", "resolve")
    assert Counter(letter["reason"] for letter in letters) == {"too_large": 2 * USERS, "invalid_json": 1}
    found = {(letter["origin"]["partition"], letter["origin"]["offset"]) for letter in letters}
    assert found == {(place.partition, place.offset) for place in buried[USERS:]}
    assert run.members("buyers") == set(TWICE)
    one = letters[0]
    shown = run.installation.command("dead-letters", "show", one["id"][:20], "--json")
    assert json.loads(shown.stdout) == one
    assert run.installation.command("dead-letters", "show", "f" * 64).returncode == 1


def test_filters_choose_letters(run: Run, buried: list[Place]) -> None:
    assert len(run.letters("--reason", "too_large", "--partition", "1")) == USERS
    (mine,) = run.letters("--profile", LOST[3])
    place = buried[USERS + 3]
    assert (mine["origin"]["partition"], mine["origin"]["offset"]) == (place.partition, place.offset)
    span = f"{place.offset}-{place.offset}"
    assert run.letters("--offsets", span, "--partition", str(place.partition)) == [mine]
    assert run.letters("--since", "2100-01-01T00:00:00Z") == []
    assert run.letters("--until", "2100-01-01T00:00:00Z", "--id", mine["id"]) == [mine]
    assert run.letters("--code", "100") == []
    assert run.letters("--audience", "buyers") == []
    assert run.letters("--stage", "deliver") == []


def test_with_the_same_limit_it_fails_again(run: Run, buried: list[Place]) -> None:
    run.installation.settings["AUDIENCE_SYNC_MAX_EVENT_BYTES"] = SMALL
    mine = ("--offsets", f"{buried[USERS].offset}", "--partition", "0")
    assert run.replay(*mine, status=1)["failed"] == 1
    (letter,) = run.letters(*mine)
    assert letter["attempts"] == 2
    assert letter["first_failed_at"] < letter["last_failed_at"]


def test_a_dry_run_says_what_would_be_and_changes_nothing(run: Run, buried: list[Place]) -> None:
    del buried
    run.installation.settings["AUDIENCE_SYNC_MAX_EVENT_BYTES"] = LARGE
    before = run.letters()
    said = run.replay("--dry-run")
    assert (said["dry_run"], said["replayed"], said["failed"]) == (True, 2 * USERS, 1)
    run.rest()
    assert run.letters() == before
    assert run.members("buyers") == set(TWICE)


def test_replayed_calls_count_once_whoever_replays_how_often(run: Run, buried: list[Place]) -> None:
    """In parts, killed, twice at once, and next to a worker that takes live calls and is killed itself."""
    del buried
    run.stop()
    run.start(LARGE)
    assert run.replay("--reason", "too_large", "--limit", "5")["replayed"] == 5
    assert len(run.letters("--reason", "too_large")) == 2 * USERS - 5
    command = ["dead-letters", "replay", "--reason", "too_large", "--rate", "2"]
    slow = run.installation.start(*command)
    run.wait(lambda: len(run.letters("--reason", "too_large")) < 2 * USERS - 5)
    slow.kill()
    slow.wait()
    two = [run.installation.start("dead-letters", "replay", "--reason", "too_large") for _ in range(2)]
    live = [f"live_{number}" for number in range(USERS)]
    run.installation.produce_raw([RawRecord(order(user, f"{user}-1"), user.encode()) for user in live])
    run.worker.stop(signal.SIGKILL)
    # The one that began first may have been ended by the other.
    assert 0 in {process.wait() for process in two}
    run.start(LARGE)
    assert run.replay("--reason", "too_large")["failed"] == 0
    assert run.replay("--reason", "too_large")["letters"] == 0
    run.rest()
    deltas = run.installation.memberships()
    assert_unbroken(deltas)
    # One order is 5, and who reaches 8 has had two: those whose second order had come in already have but one.
    assert members_of(deltas)["buyers"] == {*TWICE, *LOST, *live}
    assert members_of(deltas)["spenders"] == set(TWICE[1::2])
    assert run.installation.facebook_members()["Buyers"] == {*TWICE, *LOST, *live}


def test_what_is_no_call_fails_again_and_stays(run: Run, buried: list[Place]) -> None:
    (before,) = run.letters()
    assert run.replay(status=1)["others"][0]["id"] == before["id"]
    (after,) = run.letters()
    place = buried[-1]
    assert (after["origin"]["partition"], after["origin"]["offset"]) == (place.partition, place.offset)
    assert (after["reason"], after["attempts"]) == ("invalid_json", before["attempts"] + 1)
    plain = run.installation.command("dead-letters", "list")
    assert after["id"][:16] in plain.stdout
    assert "1 dead letters: invalid_json 1" in plain.stderr


def test_a_record_that_is_kept_no_longer_is_expired(run: Run, buried: list[Place]) -> None:
    (letter,) = run.letters()
    admin = AdminClient(client_config(run.installation.bootstrap_servers))
    place, topic = buried[-1], run.installation.catalog.source_topic
    for deleted in admin.delete_records([TopicPartition(topic, place.partition, place.offset + 1)]).values():
        deleted.result(30)
    done = run.replay()
    assert (done["expired"], done["letters"]) == (1, 1)
    assert run.letters() == []
    shown = run.installation.command("dead-letters", "show", letter["id"], "--json")
    assert json.loads(shown.stdout)["resolved"] == "expired"


# --- what Facebook refuses ---


def refuse(run: Run, audience: str, **matchers: Any) -> None:
    run.wait(lambda: run.destination(audience)["facebook_id"] is not None)
    identifier = run.destination(audience)["facebook_id"]
    words = {"code": 100, "error_subcode": 1, "message": "(#100) no", "fbtrace_id": "A"}
    run.installation.fault({"status": 400, "body": {"error": words}}, path=f"/{identifier}/users", **matchers)


def say(run: Run, user: str, **fields: Any) -> None:
    run.installation.produce([{"userId": user, **fields}])


def test_a_refused_row_is_sent_again_and_its_attempts_add_up(run: Run, buried: list[Place]) -> None:
    del buried
    refuse(run, "picky", times=1)
    say(run, "gourmet", type="track", event="Tasted")
    run.wait(lambda: len(run.letters("--audience", "picky")) == 1)
    (first,) = run.letters("--audience", "picky", "--code", "100", "--profile", "gourmet")
    assert (first["stage"], first["reason"], first["attempts"]) == ("deliver", "rejected_request", 1)
    refuse(run, "picky", times=1)
    assert run.replay("--audience", "picky")["replayed"] == 1
    run.wait(lambda: len(run.letters("--audience", "picky")) == 1)
    (second,) = run.letters("--audience", "picky")
    assert (second["id"], second["attempts"]) == (first["id"], 2)
    assert second["first_failed_at"] == first["first_failed_at"]
    assert run.installation.facebook_members()["Picky"] == set()
    assert run.replay("--audience", "picky")["replayed"] == 1
    run.wait(lambda: run.installation.facebook_members()["Picky"] == {"gourmet"})
    run.rest()
    assert run.letters("--audience", "picky") == []
    mine = [delta for delta in run.installation.memberships() if delta["profile"] == "gourmet"]
    assert [(delta["change"], delta["sequence"]) for delta in mine] == [
        ("entered", 1),
        ("updated", 2),
        ("updated", 3),
    ]
    assert_unbroken(mine)


def test_a_change_that_has_been_superseded_is_never_sent(run: Run, buried: list[Place]) -> None:
    del buried
    refuse(run, "pros", times=1)
    say(run, "wavering", type="identify", traits={"plan": "pro"})
    run.wait(lambda: len(run.letters("--audience", "pros")) == 1)
    say(run, "wavering", type="identify", traits={"plan": "free"})
    run.rest()
    identifier = run.destination("pros")["facebook_id"]
    before = run.installation.sandbox_get(f"requests?audience={identifier}")
    done = run.replay("--audience", "pros")
    assert (done["superseded"], done["replayed"]) == (1, 0)
    assert run.letters("--audience", "pros") == []
    run.rest()
    assert run.installation.sandbox_get(f"requests?audience={identifier}") == before
    assert run.installation.facebook_members()["Pros"] == set()


# --- too many of them ---


def test_a_worker_ends_where_all_that_comes_would_be_a_dead_letter(run: Run, buried: list[Place]) -> None:
    """And does no more of it when it is started again and again, as a supervisor does, however slowly it comes."""
    del buried
    run.stop()
    before = len(run.all_letters("resolve"))
    settings = {"AUDIENCE_SYNC_DEAD_LETTERS_IN_A_ROW": "250"}

    def start() -> WorkerProcess:
        run.workers.append(run.installation.start_worker(instance="slot", settings=settings))
        return run.worker

    def bury(number: int) -> int:
        """The offset behind the last of them."""
        return run.installation.produce_raw([RawRecord(b"no call", b"x", 0)] * number)[-1].offset + 1

    worker = start()
    first = bury(1) - 1
    for _ in range(2):
        end = bury(100)
        run.wait(lambda end=end: run.committed(0) == end)
    end = bury(100)
    for _ in range(2):
        assert worker.ended() == 1
        assert "records of" in worker.said
        assert "in a row, in partition 0, became dead letters" in worker.said
        assert "AUDIENCE_SYNC_DEAD_LETTERS_IN_A_ROW" in worker.said
        assert first + 201 <= run.committed(0) < first + 250
        worker = start()
    assert worker.ended() == 1
    assert len(run.all_letters("resolve")) - before <= 301
    run.start(LARGE)
    run.wait(lambda: run.committed(0) == end)
    assert len(run.all_letters("resolve")) - before == 301, "the default lets that through"


def test_a_worker_ends_where_nothing_can_be_read_between_its_stages(run: Run, buried: list[Place]) -> None:
    """Somebody else writes to profile.events, a little at a time."""
    del buried
    run.stop()
    topic = run.installation.catalog.profile_events.name
    places = run.bury_in(topic, 40)
    settings = {"AUDIENCE_SYNC_DEAD_LETTERS_IN_A_ROW": "100", "AUDIENCE_SYNC_POLL_RECORDS": "40"}
    worker = run.installation.start_worker(instance="slot", settings=settings)
    run.workers.append(worker)
    run.wait(lambda: run.committed(0, topic) > places[-1].offset)
    worker.stop(signal.SIGKILL)
    run.bury_in(topic, 59)
    run.bury_in(topic, 300)
    for _ in range(2):
        worker = run.installation.start_worker(instance="slot", settings=settings)
        run.workers.append(worker)
        assert worker.ended() == 1
        assert f"records of {topic} in a row, in partition 0, became dead letters" in worker.said
    assert 40 <= len(run.all_letters("evaluate")) < 100
    run.start(LARGE)
    run.wait(lambda: len(run.all_letters("evaluate")) == 399)
