"""`audience-sync audiences pause`, `resume` and `resync`, and what is known of destinations: desired by people, said
by workers.
"""

from __future__ import annotations

import json
import time
from typing import Any

import click

from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.domain.pausing import destinations_of, sent_again, shown_state, to_pause, to_resume, to_resync
from app.domain.published import Published
from app.domain.sync_states import read_sync_states
from app.settings import Settings, load_settings
from schemas.control import DesiredRecord
from schemas.sync import SyncState

UNREACHABLE_SECONDS = 30.0
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")


@click.command(name="pause")
@click.argument("target", metavar="KEY|DESTINATION")
@click.option("--reason", help="Shown wherever the state is, until it is resumed.")
@_as_json
def pause(target: str, reason: str | None, as_json: bool) -> None:
    """Send nothing more for an audience, or for one destination of it.

    Memberships are kept as before, and nothing is lost, however long it lasts. Workers take it up within seconds.
    """
    _, control = _ready()
    published = control.publish(lambda known: to_pause(known, target, reason, _now_ms()))
    _print(published, target, "paused", as_json=as_json)


@click.command(name="resume")
@click.argument("target", metavar="KEY|DESTINATION")
@click.option(
    "--accept-shrink",
    is_flag=True,
    help="Let removals through that the safety brake holds back, and those of the hour to come.",
)
@_as_json
def resume(target: str, accept_shrink: bool, as_json: bool) -> None:
    """Deliver again, beginning with everything that has changed meanwhile.

    Status 2, and nothing is changed, when the safety brake holds the audience and its shrinking is not accepted.
    """
    settings, control = _ready()
    states = recorded_states(settings)

    def decide(known: Published) -> DesiredRecord | None:
        return to_resume(known, states, target, _now_ms(), accept_shrink=accept_shrink)

    _print(control.publish(decide), target, "resumed", as_json=as_json)


@click.command(name="resync")
@click.argument("target", metavar="KEY|DESTINATION")
@click.option(
    "--replace",
    is_flag=True,
    help="Put the members in the place of everybody in the Facebook audience: whoever else is in it leaves it.",
)
@_as_json
def resync(target: str, replace: bool, as_json: bool) -> None:
    """Send every member once more, and remove once more everybody who has left.

    Repairs what Facebook has, whatever happened to it. Goes on beside what changes meanwhile, in order; what is paused
    begins when it is resumed. With --replace, changes wait until all members are there, at most 90 minutes.
    """
    _, control = _ready()
    published = control.publish(lambda known: to_resync(known, target, _now_ms(), replace=replace))
    for id_, why in sent_again(published, target).items() if replace else ():
        click.echo(f"{id_} is sent again, not replaced: {why}", err=True)
    _print(published, target, "resync", as_json=as_json)


def control_of(settings: Settings) -> KafkaControl:
    """The audience.control of the installation."""
    reader = LogReader(kafka_connection(settings))
    return KafkaControl(reader, kafka_connection(settings), settings.catalog, settings.partitions)


def published_now(settings: Settings) -> Published:
    """What is published, nothing where no topic has been made; UnreachableError when Kafka does not answer."""
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    topic = settings.catalog.control
    if admin.layouts((topic,))[topic.name] is None:
        return Published()
    return control_of(settings).refresh(settled=True)


def recorded_states(settings: Settings) -> dict[str, SyncState]:
    """What workers last wrote of each destination, by its id."""
    topic = settings.catalog.syncs
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    layout = admin.layouts((topic,))[topic.name]
    if layout is None:
        return {}
    values = LogReader(kafka_connection(settings)).latest_values(topic.name, layout.partitions)
    return read_sync_states(values, topic.name)


def known_state(
    published: Published, states: dict[str, SyncState], audience: str, destination: str
) -> dict[str, Any]:
    """`state` and `reason` of a destination; paused from the moment at which somebody wants it."""
    state, reason = shown_state(published, states, audience, destination)
    return {"state": state.value, "reason": reason}


def _ready() -> tuple[Settings, KafkaControl]:
    settings = load_settings()
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    admin.ensure((settings.catalog.control,))
    return settings, control_of(settings)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _print(published: Published, target: str, done: str, *, as_json: bool) -> None:
    ids = destinations_of(published, target)
    if as_json:
        click.echo(json.dumps({"target": target, "state": done, "destinations": ids}))
    else:
        click.echo(f"{done} {target} [{', '.join(ids)}]")
