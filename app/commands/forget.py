"""`audience-sync forget`: a person is to be known no longer, here and at Facebook."""

from __future__ import annotations

import json

import click

from app.adapters.clock import SystemClock
from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_forget import KafkaForget
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.commands.explain import profile_names
from app.domain.profile_ids import ACCOUNT, USER, is_account
from app.errors import InvalidInputError
from app.pipeline.forgetting import requests
from app.settings import load_settings

UNREACHABLE_SECONDS = 30.0


@click.command(name="forget")
@click.argument("profile")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def command(profile: str, as_json: bool) -> None:
    """Forget the person who has PROFILE: out of every audience, and nothing is kept of them.

    PROFILE is a user id, an anonymous id, or an e-mail address, which is hashed here; whoever is meant by any of these
    is forgotten, with all their identifiers. The workers do it, and Facebook's audiences follow as they are delivered to,
    a paused one when it is resumed. What was said of the person up to now is dropped however late it comes.
    """
    if is_account(profile):
        raise InvalidInputError(
            "`group_id:` names an account, and only people are forgotten: give the user id, an anonymous id or the e-mail "
            f"address of a person (a user id that begins so is written {USER}{ACCOUNT}...)"
        )
    settings = load_settings()
    # No call has a longer id: it would be part of it.
    if len(profile.encode("utf-8", "surrogateescape")) > settings.max_event_bytes:
        raise InvalidInputError(
            f"PROFILE has more than {settings.max_event_bytes:,} bytes, which is more than a whole call may have "
            "(AUDIENCE_SYNC_MAX_EVENT_BYTES): give the id of a person"
        )
    names = profile_names(profile)
    connection = kafka_connection(settings)
    reachable(connection, UNREACHABLE_SECONDS)
    admin = TopicAdmin(connection, settings.partitions, settings.replication_factor)
    reader = LogReader(connection)
    KafkaControl(reader, connection, settings.catalog, settings.partitions).require_whole(admin)
    log = KafkaForget(reader, admin, connection, settings.catalog, settings.partitions)
    now = SystemClock().now_ms()
    log.ask(lambda topic_id, position: requests(names, settings.catalog, topic_id, position, now))
    if as_json:
        click.echo(json.dumps({"requested": len(names)}))
    else:
        click.echo("requested: the workers forget the person, and remove them from every Facebook audience")
