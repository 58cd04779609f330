"""A worker that meets what a newer release wrote ends, says so, and moves nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from schemas.sync import SyncState
from tests.golden.files import HERE, this_release
from tests.integration.installation import Installation, wait_until
from tests.integration.topic_records import RawRecord, write_records
from topics.partitioning import partition_for

AUDIENCES = "audiences: [{name: Active, when: {trait: active, equals: true}}]"
GOLDEN = HERE / this_release()


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)) as made:
        yield made


def newer(name: str) -> bytes:
    parts = msgspec.msgpack.decode((GOLDEN / name).read_bytes())
    return msgspec.msgpack.encode([2, *parts[1:]])


def test_a_worker_is_not_started_on_newer_records_nor_goes_on_past_one(installation: Installation) -> None:
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    topic = installation.catalog.profile_events.name
    event = RawRecord(newer("ProfileEvent.CALL.msgpack"), b"user_1")
    write_records(installation.bootstrap_servers, topic, [event])
    assert worker.ended() == 2
    assert (
        "worker: ended: there is a ProfileEvent of format 2, and this release knows 1 at most" in worker.said
    )
    assert installation.dead_letters() == []
    # It is met again, until a release that knows it is there.
    again = installation.start_worker(instance="slot")
    assert (again.ended(), "ProfileEvent of format 2" in again.said) == (2, True)

    changelog = installation.catalog.profiles_changelog.name
    state = RawRecord(newer("ProfileState.full.msgpack"), b"user_1")
    write_records(installation.bootstrap_servers, changelog, [state])
    third = installation.start_worker(instance="slot")
    assert (third.ended(), "record of a profile of format 2" in third.said) == (2, True)
    assert installation.memberships() == []


def test_a_record_that_no_release_wrote_can_be_set_aside(installation: Installation) -> None:
    """It ends every worker until a person has said so; bytes that only begin like it never do."""
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    events, memberships = installation.catalog.profile_events.name, installation.catalog.memberships.name
    parts = msgspec.msgpack.decode((GOLDEN / "ProfileEvent.CALL.msgpack").read_bytes())
    hostile = msgspec.msgpack.encode([99, *parts[1:]])
    write = [RawRecord(b"\x93\x63 garbage", b"user_1"), RawRecord(hostile, b"user_1")]
    garbage, place = write_records(installation.bootstrap_servers, events, write)
    assert worker.ended() == 2
    where = f"{events}, partition {place.partition}, offset {place.offset}"
    assert "ProfileEvent of format 99, and this release knows 1 at most" in worker.said
    assert where in worker.said
    command = f"dead-letters set-aside {events} {place.partition} {place.offset}"
    assert command in worker.said
    missing = installation.command("dead-letters", "set-aside", events, "0", str(place.offset + 10_000))
    assert (missing.returncode, "has no record" in missing.stderr) == (2, True)
    state = installation.command("dead-letters", "set-aside", installation.catalog.syncs.name, "0", "0")
    assert (state.returncode, "each record is state" in state.stderr) == (2, True)
    harmless = installation.command("dead-letters", "set-aside", events, "0", str(garbage.offset))
    assert (harmless.returncode, "no newer format" in harmless.stderr) == (2, True)
    for _ in range(2):
        done = installation.command(*command.split())
        assert (done.returncode, done.stdout) == (0, "set aside: start the workers again\n"), done.stderr

    second = installation.start_worker(instance="slot")
    installation.produce([{"type": "identify", "userId": "user_1", "traits": {"active": True}}])
    wait_until(lambda: installation.facebook_members().get("Active") == {"user_1"}, lambda: second.said)
    installation.wait_until_idle(second)
    reasons = {letter["origin"]["offset"]: letter["reason"] for letter in installation.dead_letters()}
    assert reasons == {garbage.offset: "invalid_field", place.offset: "newer_format"}
    # A release that does not know it yet holds up no other letter by it.
    replayed = installation.command("dead-letters", "replay", "--reason", "newer_format", "--json")
    assert (replayed.returncode, json.loads(replayed.stdout)["failed"]) == (1, 1), replayed.stderr

    delta = json.dumps({"version": 99, "audience": "active", "profile": "x"}).encode()
    partition = partition_for(b"active", installation.partitions)
    record = RawRecord(delta, b"active|x", partition)
    (place,) = write_records(installation.bootstrap_servers, memberships, [record])
    assert second.ended() == 2
    command = f"dead-letters set-aside {memberships} {place.partition} {place.offset}"
    assert command in second.said
    assert installation.command(*command.split()).returncode == 0
    third = installation.start_worker(instance="slot")
    installation.produce([{"type": "identify", "userId": "user_2", "traits": {"active": True}}])
    wait_until(
        lambda: installation.facebook_members().get("Active") == {"user_1", "user_2"}, lambda: third.said
    )
    assert "newer_format" in {
        letter["reason"] for letter in installation.dead_letters() if letter["stage"] == "deliver"
    }
    assert installation.command("reconcile").returncode == 0


def test_commands_refuse_what_a_newer_release_wrote(installation: Installation) -> None:
    published = installation.apply(AUDIENCES)
    assert published.returncode == 0, published.stderr
    state = SyncState(destination="active", audience="active", marker="m", updated_at=1, version=2)
    record = RawRecord(state.model_dump_json().encode(), b"active")
    write_records(installation.bootstrap_servers, installation.catalog.syncs.name, [record])
    for command in (["reconcile"], ["audiences", "list"], ["audiences", "show", "active"]):
        done = installation.command(*command)
        assert done.returncode == 2, done.stdout
        assert "there is a SyncState of format 2" in done.stderr
