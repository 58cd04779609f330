"""`audience-sync doctor`: whether a worker with these settings could work, and what to do where not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Final

import click

from app.adapters.clock import SystemClock
from app.adapters.definition_files import read_definitions
from app.adapters.facebook_connection import facebook_graph
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.kafka_client import reachable, require_usable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_topics import TopicAdmin, TopicCleanup
from app.adapters.settings_options import room
from app.commands.facebook_checks import MOST_ACCOUNTS, accounts_of, fix_of, not_asked, version_finding
from app.commands.findings import Finding, first_line, have_failed, line_of
from app.commands.findings import as_json as findings_as_json
from app.domain.conditions import compile_audiences
from app.domain.definitions import DefinitionSet
from app.domain.reverse_etl import refuse_own_topics, row_topics
from app.errors import AudienceSyncError, InvalidInputError
from app.settings import Settings, load_settings
from app.web.guard import Access
from topics.spec import MAX_COMPACTION_LAG_MS, Cleanup, TopicSpec

UNREACHABLE_SECONDS = 30.0
FACEBOOK_SECONDS: Final = 20.0
# Meta takes a call's proof for five minutes; events of a clock that is further ahead would count early.
MOST_SKEW_MS: Final = 30_000


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def command(as_json: bool) -> int:
    """Check what a worker needs: definitions, Kafka, topics, the pages' token, the clock, Facebook's token and
    answer, the version of its API.

    One line for each check, with the fix where one fails. Nothing is changed or created. Status 1 when a check fails,
    2 when the settings themselves cannot be read.
    """
    findings = []
    for finding in examine(load_settings()):
        findings.append(finding)
        if not as_json:
            click.echo(line_of(finding))
    if as_json:
        click.echo(json.dumps(findings_as_json(findings), ensure_ascii=False))
    return int(have_failed(findings))


def examine(settings: Settings) -> Iterator[Finding]:
    """Each finding as it is made."""
    definitions, finding = _definitions(settings)
    yield finding
    yield _pages(settings)
    kafka = _kafka(settings)
    yield kafka
    if kafka.status == "ok":
        yield from _topics(settings, definitions)
    else:
        yield Finding("topics", "skipped", "Kafka has to answer first")
    yield from asyncio.run(_facebook(settings, definitions))


def _definitions(settings: Settings) -> tuple[DefinitionSet | None, Finding]:
    try:
        definitions = read_definitions(settings.audiences, settings.profile_events)
        refuse_own_topics(definitions.audiences, settings.source_topic, settings.catalog.own_names)
        compile_audiences(definitions.audiences, definitions.traits, room=room(settings))
    except InvalidInputError as error:
        fix = "`audience-sync validate` shows every problem; AUDIENCE_SYNC_AUDIENCES names the file"
        return None, Finding("definitions", "failed", first_line(error), fix)
    text = f"{len(definitions.audiences)} audiences in {settings.audiences}"
    return definitions, Finding("definitions", "ok", text)


def _pages(settings: Settings) -> Finding:
    if settings.web_port == 0:
        return Finding("pages", "ok", "none are served")
    try:
        Access(settings.web_host, settings.web_token)
    except InvalidInputError:
        text = f"they would be open to whoever reaches {settings.web_host}, so a worker does not start"
        return Finding("pages", "failed", text, "set AUDIENCE_SYNC_WEB_TOKEN_FILE")
    asks = "ask for the token" if settings.web_token is not None else "open to this machine alone"
    return Finding("pages", "ok", f"{settings.web_host} port {settings.web_port}, {asks}")


def _kafka(settings: Settings) -> Finding:
    connection = kafka_connection(settings)
    try:
        # Both clients have to be able to use what they are given.
        require_usable(connection)
        reachable(connection, UNREACHABLE_SECONDS)
    except AudienceSyncError as error:
        fix = "KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ settings; see `audience-sync settings`"
        return Finding("kafka", "failed", first_line(error), fix)
    return Finding("kafka", "ok", f"{connection} answers, {settings.kafka_security_protocol}")


def _topics(settings: Settings, definitions: DefinitionSet | None) -> Iterator[Finding]:
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    audiences = () if definitions is None else definitions.audiences
    rows = row_topics(audiences, settings.source_topic)
    specs = (*settings.catalog.all(), *map(settings.catalog.rows, rows))
    try:
        layouts = admin.layouts(specs)
        cleanups = admin.cleanups([name for name, layout in layouts.items() if layout is not None])
    except AudienceSyncError as error:
        yield Finding(
            "topics", "failed", first_line(error), "look at the brokers, and at the rights of the user"
        )
        return
    for spec in specs:
        layout = layouts[spec.name]
        check = f"topic {spec.name}"
        if layout is None and spec.name in rows:
            text = f"does not exist, and audience {rows[spec.name]} takes its rows from it"
            yield Finding(check, "failed", text, "create it where the rows are written, or correct its name")
        elif layout is None:
            yield Finding(check, "failed", "does not exist", "`audience-sync topics` creates it")
        elif spec.ours:
            yield _own_topic(check, spec, layout.partitions, cleanups[spec.name], settings)
        else:
            yield Finding(check, "ok", f"{layout.partitions} partitions")


def _own_topic(
    check: str, spec: TopicSpec, partitions: int, cleanup: TopicCleanup, settings: Settings
) -> Finding:
    wanted, policy = spec.partitions or settings.partitions, cleanup.policy
    if partitions != wanted:
        text = f"{partitions} partitions, and {wanted} are configured"
        return Finding(
            check,
            "failed",
            text,
            f"set AUDIENCE_SYNC_PARTITIONS={partitions}, or `audience-sync topics repartition --partitions {wanted}`",
        )
    if set(policy.split(",")) != set(spec.cleanup.value.split(",")):
        text = f"cleanup.policy is {policy}, and {spec.cleanup.value} is needed: records would be lost, or pile up"
        fix = (
            f"`kafka-configs --alter --topic {spec.name} --add-config cleanup.policy=[{spec.cleanup.value}]`"
        )
        return Finding(check, "failed", text, fix)
    if spec.cleanup is not Cleanup.DELETE and cleanup.compaction_lag_ms > MAX_COMPACTION_LAG_MS:
        text = (
            f"max.compaction.lag.ms is {cleanup.compaction_lag_ms}, and {MAX_COMPACTION_LAG_MS} at most is needed: older records of "
            "forgotten people would stay for longer, or for ever"
        )
        fix = f"`kafka-configs --alter --topic {spec.name} --add-config max.compaction.lag.ms={MAX_COMPACTION_LAG_MS}`"
        return Finding(check, "failed", text, fix)
    return Finding(check, "ok", f"{partitions} partitions, {policy}")


async def _facebook(settings: Settings, definitions: DefinitionSet | None) -> list[Finding]:
    if settings.facebook_access_token is None:
        missing = Finding(
            "token", "failed", "FACEBOOK_ACCESS_TOKEN is not set", "set FACEBOOK_ACCESS_TOKEN_FILE"
        )
        facebook, clock = (Finding(check, "skipped", "needs the token") for check in ("facebook", "clock"))
        return [missing, facebook, version_finding(settings), clock]
    findings = [Finding("token", "ok", "FACEBOOK_ACCESS_TOKEN is set")]
    try:
        graph = facebook_graph(settings, SystemClock(), FACEBOOK_SECONDS)
    except InvalidInputError as error:
        return [Finding("token", "failed", str(error), "correct the FACEBOOK_ settings")]
    async with graph:
        accounts = accounts_of(settings, definitions)
        findings += [await _account(graph, settings, account) for account in accounts[:MOST_ACCOUNTS]]
        findings += not_asked(settings, definitions, accounts)
        skew, answered = graph.clock_skew_ms, graph.version_warning
    findings += [version_finding(settings, answered), _clock(skew)]
    return findings


async def _account(graph: FacebookGraph, settings: Settings, account: str) -> Finding:
    check = f"facebook {account}"
    listed = graph.list_audiences(account)
    try:
        async for _ in listed:
            break
    except AudienceSyncError as error:
        return Finding(check, "failed", first_line(error), fix_of(error, account))
    finally:
        await listed.aclose()
    return Finding(check, "ok", f"the token may read its audiences at {settings.facebook_api_url}")


def _clock(skew: int | None) -> Finding:
    if skew is None:
        return Finding("clock", "skipped", "Facebook has not said what time it is")
    text = f"{abs(skew) / 1_000:.0f} s {'ahead of' if skew > 0 else 'behind'} Facebook's"
    if abs(skew) > MOST_SKEW_MS:
        return Finding(
            "clock", "failed", text, "keep this machine's clock by NTP (chrony, systemd-timesyncd)"
        )
    return Finding("clock", "ok", text)
