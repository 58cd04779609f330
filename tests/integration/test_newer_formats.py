"""A worker that meets what a newer release wrote ends, says so, and moves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec
import pytest

from schemas.sync import SyncState
from tests.golden.files import HERE, this_release
from tests.integration.installation import Installation
from tests.integration.topic_records import RawRecord, write_records

AUDIENCES = "audiences: [{name: Active, when: {trait: active, equals: true}}]"
GOLDEN = HERE / this_release()


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    made = Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)
    try:
        yield made
    finally:
        made.close()


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
