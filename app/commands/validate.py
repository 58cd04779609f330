"""`audience-sync validate`: check audience definitions and read them out in plain words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.adapters.definition_files import read_definitions
from app.adapters.kafka_connection import kafka_connection
from app.adapters.settings_options import room
from app.adapters.source_survey import SourceTopic
from app.commands.facebook_checks import examine
from app.commands.findings import Finding, have_failed, line_of
from app.commands.findings import as_json as findings_as_json
from app.domain.condition_words import describe_condition, describe_trait
from app.domain.conditions import compile_audiences
from app.domain.definitions import published_form
from app.domain.definitions_on_topic import beyond_retention, hashed_external_ids, never_seen
from app.domain.reverse_etl import refuse_own_topics, row_topics
from app.settings import load_settings
from schemas.audience import AudienceSource, DeliveryMode, Entity, SyncMode

if TYPE_CHECKING:
    from app.domain.definitions import DefinitionSet
    from app.settings import Settings
    from schemas.audience import AudienceDefinition, ComputedTraitDefinition, FacebookDestination

UNREACHABLE_SECONDS = 30.0
SURVEYED_RECORDS = 10_000

_DECIDED_ELSEWHERE = {
    AudienceSource.ENGAGE: "computed by Segment Engage",
    AudienceSource.REVERSE_ETL: "rows of a warehouse",
}


@click.command(name="validate")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--audiences",
    "option",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="YAML file or folder of them; default: the setting AUDIENCES, else ./audiences.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.option(
    "--kafka", is_flag=True, help="Compare with the source topic too: what it keeps, and what its calls have."
)
@click.option(
    "--facebook",
    is_flag=True,
    help="Ask Facebook too: token, permissions, and of each ad account task, business and terms; the API's version.",
)
def command(file: Path | None, option: Path | None, as_json: bool, kafka: bool, facebook: bool) -> int:
    """Check audience definitions and read each out in plain words.

    Without --kafka and --facebook nothing but the files is looked at. With --kafka, warnings also name windows that
    are longer than the source topic keeps its records, and events, properties and traits that its newest 10,000
    records do not have. With --facebook one line follows for each check, with the fix where one is needed.

    Status 2 with every problem found, one a line, when the definitions cannot be used; 1 when a check of --facebook
    fails; 3 when Kafka or Facebook does not answer for 30 s. Warnings go to standard error and leave the status at 0.
    """
    if file is not None and option is not None:
        raise click.UsageError("give the file once, as an argument or with --audiences")
    settings = load_settings()
    definitions = read_definitions(file or option or settings.audiences, settings.profile_events)
    # What can be read and not be computed, such as a count beyond what is kept, is refused here too.
    refuse_own_topics(definitions.audiences, settings.source_topic, settings.catalog.own_names)
    compile_audiences(definitions.audiences, definitions.traits, room=room(settings))
    warnings = [*definitions.warnings, *definitions.remarks]
    if kafka:
        warnings += _compared_with_topic(definitions, settings)
    findings: list[Finding] = []
    if as_json:
        if facebook:
            findings = asyncio.run(_facebook(settings, definitions, lambda _: None))
        result = {
            "audiences": [_as_json(audience) for audience in definitions.audiences],
            "traits": [_trait_as_json(trait) for trait in definitions.traits],
            "warnings": warnings,
            **({"facebook": findings_as_json(findings)} if facebook else {}),
        }
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        for audience in definitions.audiences:
            click.echo(_line(audience))
        for trait in definitions.traits:
            click.echo(f"{trait.key}, computed trait: {describe_trait(trait)}")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if facebook and not as_json:
        findings = asyncio.run(_facebook(settings, definitions, lambda one: click.echo(line_of(one))))
    return int(have_failed(findings))


async def _facebook(
    settings: Settings, definitions: DefinitionSet, show: Callable[[Finding], None]
) -> list[Finding]:
    findings = []
    async for finding in examine(settings, definitions):
        show(finding)
        findings.append(finding)
    return findings


def _compared_with_topic(definitions: DefinitionSet, settings: Settings) -> list[str]:
    source = SourceTopic(kafka_connection(settings), settings.catalog.source, UNREACHABLE_SECONDS)
    rows = row_topics(definitions.audiences, settings.source_topic)
    source.require_others(tuple(map(settings.catalog.rows, rows)), rows)
    retention = source.retention_ms()
    warnings = [] if retention is None else beyond_retention(definitions, retention)
    survey = source.survey(SURVEYED_RECORDS)
    if survey.records == 0:
        return [
            *warnings,
            f"{settings.source_topic} holds no records: events and properties were not compared",
        ]
    missing = [*never_seen(definitions, survey), *hashed_external_ids(definitions, survey)]
    return [
        *warnings,
        *(f"{line} (newest {survey.records:,} records of {settings.source_topic})" for line in missing),
    ]


def _line(audience: AudienceDefinition) -> str:
    words = _words(audience)
    if audience.require is not None:
        words += f"; required: {describe_condition(audience.require)}"
    notes = [] if audience.enabled else ["not enabled"]
    if audience.include_anonymous:
        notes.append("with anonymous people")
    notes.append(
        ", ".join(_destination(audience, one) for one in audience.destinations) or "delivered nowhere"
    )
    of = " of accounts" if audience.entity is Entity.ACCOUNT else ""
    return f"{audience.key} ({audience.name}), {audience.source}{of}: {words} [{'; '.join(notes)}]"


def _words(audience: AudienceDefinition) -> str:
    return _DECIDED_ELSEWHERE[audience.source] if audience.when is None else describe_condition(audience.when)


def _destination(audience: AudienceDefinition, destination: FacebookDestination) -> str:
    words = destination.id if destination.mode is DeliveryMode.LIVE else f"{destination.id} as a dry run"
    mode = destination.sync_mode
    if mode is not SyncMode.MIRROR:
        words += f", {mode}"
    if destination.fields:
        words += f" with {' and '.join(destination.fields)} as mapped, of calls from now on"
        if audience.include_history:
            words += " and, when that is new, of all that the source topic keeps"
    return words


def _as_json(audience: AudienceDefinition) -> dict[str, Any]:
    return {
        "key": audience.key,
        "name": audience.name,
        "source": audience.source.value,
        "condition": _words(audience),
        "require": None if audience.require is None else describe_condition(audience.require),
        "destinations": [destination.id for destination in audience.destinations],
        "definition": published_form(audience),
    }


def _trait_as_json(trait: ComputedTraitDefinition) -> dict[str, Any]:
    return {"key": trait.key, "value": describe_trait(trait), "definition": published_form(trait)}
