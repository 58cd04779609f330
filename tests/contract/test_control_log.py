"""audience.control: one suite for the twin in memory and for Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.memory import MemoryControl
from app.domain.definitions import Document, parse_definitions
from app.domain.published import Published, next_version
from app.errors import InvalidInputError
from app.ports import ControlLog
from schemas.control import DefinitionsRecord, DesiredRecord, WantedRecord
from topics.catalog import Catalog

Decide = Callable[[Published], DefinitionsRecord | None]


@pytest.fixture(params=["memory", "kafka"])
def controls(request: pytest.FixtureRequest) -> tuple[ControlLog, ControlLog]:
    """Two processes' views of one log."""
    if request.param == "memory":
        control = MemoryControl()
        return control, control
    servers = request.getfixturevalue("bootstrap_servers")
    catalog = Catalog(f"test-{uuid.uuid4().hex[:12]}.")
    TopicAdmin(servers, 1, -1).ensure((catalog.control,))
    one, other = (KafkaControl(LogReader(servers), servers, catalog, 1) for _ in range(2))
    return one, other


def publishes(name: str) -> Decide:
    text = f"audiences: [{{name: {name}, when: {{event: A}}}}]"
    definitions = parse_definitions([Document("audiences.yaml", text)])
    return lambda published: next_version(published.newest, definitions, 0)


def names(published: Published) -> list[str]:
    return [key for number in sorted(published.versions) for key in published.versions[number].definitions]


def test_what_is_published_is_seen_by_all(controls: tuple[ControlLog, ControlLog]) -> None:
    one, other = controls
    assert one.refresh() == Published()
    assert names(one.publish(publishes("a"))) == ["a"]
    assert names(other.refresh(settled=True)) == ["a"]
    assert names(other.publish(publishes("b"))) == ["a", "b"]
    newest = one.refresh(settled=True).newest
    assert newest is not None
    assert newest.number == 2


def test_nothing_is_published_where_nothing_is_decided(controls: tuple[ControlLog, ControlLog]) -> None:
    one, other = controls

    def refuse(published: Published) -> None:
        del published
        raise InvalidInputError("no")

    assert one.publish(lambda _: None) == Published()
    with pytest.raises(InvalidInputError, match=r"^no$"):
        one.publish(refuse)
    assert other.refresh(settled=True) == Published()


def test_desired_states_are_kept_beside_versions(controls: tuple[ControlLog, ControlLog]) -> None:
    one, other = controls

    def wants(target: str, number: int, *, paused: bool) -> DesiredRecord:
        return DesiredRecord(target=target, number=number, paused=paused, written_at=number)

    one.publish(publishes("a"))
    one.publish(lambda _: wants("a", 1, paused=True))
    other.publish(lambda _: wants("b@act_1", 2, paused=True))
    other.publish(lambda _: wants("a", 3, paused=False))
    found = one.publish(publishes("b"))
    assert names(found) == ["a", "b"]
    assert found.desired == {"a": wants("a", 3, paused=False), "b@act_1": wants("b@act_1", 2, paused=True)}
    assert other.refresh(settled=True) == found


def test_who_publishes_in_between_is_heard_first(bootstrap_servers: str) -> None:
    catalog = Catalog(f"test-{uuid.uuid4().hex[:12]}.")
    TopicAdmin(bootstrap_servers, 1, -1).ensure((catalog.control,))
    slow, quick = (
        KafkaControl(LogReader(bootstrap_servers), bootstrap_servers, catalog, 1) for _ in range(2)
    )
    asked: list[list[str]] = []

    def decide(published: Published) -> DefinitionsRecord | None:
        asked.append(names(published))
        if len(asked) == 2:  # behind the writer's start, before its commit
            quick.publish(publishes("quick"))
        return publishes("slow")(published)

    assert names(slow.publish(decide)) == ["quick", "slow"]
    assert asked[:3] == [[], [], ["quick"]]
    newest = quick.refresh(settled=True).newest
    assert newest is not None
    assert newest.number == 2


def test_what_was_wanted_goes_with_the_version_that_has_it(
    request: pytest.FixtureRequest, controls: tuple[ControlLog, ControlLog]
) -> None:
    one, other = controls
    one.publish(publishes("a"))
    wanted = [WantedRecord(audience=key) for key in ("vips", "later")]
    if isinstance(one, MemoryControl):
        one.published = replace(one.published, wanted=frozenset({"vips", "later"}))
    else:
        assert isinstance(one, KafkaControl)
        producer = DurableProducer(request.getfixturevalue("bootstrap_servers"))
        for record in wanted:
            producer.produce(one.topic, record.model_dump_json().encode(), record.key.encode(), 0)
        producer.flush()
    assert other.refresh(settled=True).wanted == {"vips", "later"}

    def create(published: Published) -> DefinitionsRecord:
        newest = published.newest
        assert newest is not None
        return newest.model_copy(update={"number": 2, "created": ("vips",)})

    assert one.publish(create).wanted == {"later"}
    found = other.refresh(settled=True)
    assert found.wanted == {"later"}
    assert found.newest is not None
    assert found.newest.created == ("vips",)
