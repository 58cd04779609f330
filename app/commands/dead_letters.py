"""`audience-sync dead-letters`: what could not be processed, and trying it again."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.adapters.clock import SystemClock
from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_letters import KafkaReplayLog, newest_letters
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.settings_options import resolve_options, room
from app.commands.explain import profile_names
from app.domain.dead_letters import LetterFilter, in_order, key_digest
from app.domain.formats import UNDECODABLE, is_packed, refuse_newer_json, refuse_newer_packed
from app.domain.instants import format_instant, parse_instant
from app.domain.replaying import Projection, projected
from app.errors import InvalidInputError, NewerFormatError, PermanentError
from app.pipeline.replay import MOST_LETTERS, Outcome, Replay, Totals
from app.settings import Settings, load_settings
from schemas.control import SetAsideRecord
from schemas.dead_letter import DeadLetter, Reason
from schemas.profile import ProfileEvent

UNREACHABLE_SECONDS = 30.0
FAILED: Final = 1
_LISTED: Final = 100
_SHORT_ID: Final = 16
# Letters that were not replayed and are named one by one.
_NAMED: Final = 100
_STAGES: Final = ("resolve", "evaluate", "deliver")


@click.group(name="dead-letters")
def command() -> None:
    """List, show and replay what could not be processed, as the topic dead.letters has it; set aside what ends
    workers.
    """


# --- which letters ------------------------------------------------------------------------------------------------


class _Instant(click.ParamType):
    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        instant = value if isinstance(value, int) else parse_instant(str(value))
        if instant is None:
            self.fail(f"{value!r} is no instant with a zone, such as 2026-01-31T00:00:00Z", param, ctx)
        return instant


class _Offsets(click.ParamType):
    name = "offsets"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, dash, last = str(value).partition("-")
        last = last if dash else first
        if not (_is_number(first) and _is_number(last)) or int(first) > int(last):
            self.fail(f"{value!r} is no range of offsets, such as 100-200", param, ctx)
        return int(first), int(last)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


_FILTERS: Final = (
    click.option("--id", "ids", multiple=True, metavar="ID", help="The letter, or the beginning of its id."),
    click.option("--stage", "stages", multiple=True, type=click.Choice(_STAGES)),
    click.option("--reason", "reasons", multiple=True, type=click.Choice([one.value for one in Reason])),
    click.option("--audience", "audiences", multiple=True, metavar="KEY"),
    click.option("--code", "codes", multiple=True, type=int, metavar="CODE", help="Facebook's error code."),
    click.option(
        "--since", type=_Instant(), metavar="INSTANT", help="Failed then or later, 2026-01-31T00:00:00Z."
    ),
    click.option("--until", type=_Instant(), metavar="INSTANT", help="Failed before then."),
    click.option(
        "--offsets",
        type=_Offsets(),
        metavar="A-B",
        help="Of the records in their topics, both included; see --partition.",
    ),
    click.option("--partition", type=click.IntRange(0), metavar="N", help="Of the records in their topics."),
    click.option(
        "--profile",
        metavar="PROFILE",
        help="A user id, an anonymous id or an e-mail address, which is hashed here. Records of the source topic are "
        "found by their keys alone.",
    ),
)


def _filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        function = option(function)
    return function


def _filter(
    profile: str | None,
    ids: tuple[str, ...],
    stages: tuple[str, ...],
    reasons: tuple[str, ...],
    audiences: tuple[str, ...],
    codes: tuple[int, ...],
    **others: Any,
) -> LetterFilter:
    names = () if profile is None else profile_names(profile)
    keys = () if profile is None else (key_digest(profile.encode()) or "",)
    return LetterFilter(
        ids=ids,
        stages=stages,
        reasons=reasons,
        audiences=audiences,
        codes=codes,
        profiles=tuple(names),
        keys=keys,
        **others,
    )


# --- list and show ------------------------------------------------------------------------------------------------


@command.command(name="list")
@_filtered
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=_LISTED,
    show_default=True,
    help="Newest failures shown at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def list_letters(limit: int, as_json: bool, **filters: Any) -> None:
    """List the letters that still wait for somebody, the newest failure first.

    Letters that have been replayed, superseded or have expired are not listed; `show` has them.
    """
    wanted = _filter(**filters)
    letters = _read(load_settings(), lambda letter: letter.resolved is None and wanted.meets(letter))
    letters.sort(key=lambda letter: (-letter.last_failed_at, letter.id))
    reasons = Counter(letter.reason.value for letter in letters)
    shown = letters[:limit]
    if as_json:
        result = {
            "total": len(letters),
            "reasons": dict(sorted(reasons.items())),
            "letters": [_document(letter) for letter in shown],
        }
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for letter in shown:
        click.echo(_line(letter))
    counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
    more = f"; {len(letters) - limit:,} more are not shown" if len(letters) > limit else ""
    click.echo(f"{len(letters):,} dead letters{': ' if counts else ''}{counts}{more}", err=True)


def _line(letter: DeadLetter) -> str:
    origin = letter.origin
    parts = [
        letter.id[:_SHORT_ID],
        format_instant(letter.last_failed_at),
        letter.stage,
        letter.reason.value,
        f"{origin.topic}[{origin.partition}]@{origin.offset}",
    ]
    if letter.destination is not None:
        parts.append(letter.destination)
    if letter.attempts > 1:
        parts.append(f"{letter.attempts} attempts")
    return f"{'  '.join(parts)}  {letter.detail}"


def _document(letter: DeadLetter) -> dict[str, Any]:
    document: dict[str, Any] = letter.model_dump(mode="json")
    for name in ("first_failed_at", "last_failed_at"):
        document[name] = format_instant(document[name])
    return document


@command.command(name="show")
@click.argument("id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def show(id: str, as_json: bool) -> None:  # noqa: A002 - the argument's name
    """Show all that is known of one letter. ID is its id, or the beginning of it."""
    if not id.strip():
        raise InvalidInputError(
            "ID is blank: give a letter's id, or the beginning of it, as `dead-letters list` has it"
        )
    letters = _read(load_settings(), lambda letter: letter.id.startswith(id))
    if not letters:
        raise PermanentError(f"there is no dead letter {id}: letters are kept for 30 days")
    if len(letters) > 1:
        raise InvalidInputError(f"{len(letters):,} dead letters begin with {id}: give more of the id")
    document = _document(letters[0])
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for name, value in document.items():
        if value is not None and name != "version":
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            click.echo(f"{name}: {text}")


def _read(settings: Settings, meets: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    topic = settings.catalog.dead_letters
    if _admin(settings).layouts((topic,))[topic.name] is None:
        return []
    reader = LogReader(kafka_connection(settings))
    found = newest_letters(reader, topic.name, settings.partitions, meets)
    if found.unreadable:
        click.echo(f"{found.unreadable:,} records of {topic.name} are no dead letters", err=True)
    return found.letters


def _admin(settings: Settings) -> TopicAdmin:
    return TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)


# --- replay -------------------------------------------------------------------------------------------------------


@command.command(name="replay")
@_filtered
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would become of the letters.")
@click.option(
    "--limit", type=click.IntRange(1), help="Replay so many letters at most, the earliest records first."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Letters a second at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def replay(dry_run: bool, limit: int | None, rate: float | None, as_json: bool, **filters: Any) -> None:
    """Try again what could not be processed, with the definitions and settings of now.

    May be broken off and started again at any time, while workers run too: nothing is done twice. Of two at the same
    time the later one goes on, and the other ends. Status 1 when a letter has failed again.
    """
    settings = load_settings()
    wanted = _filter(**filters)
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    reader, servers = LogReader(kafka_connection(settings)), kafka_connection(settings)
    log = KafkaReplayLog(reader, _admin(settings), servers, settings.catalog, settings.partitions)
    topic_id = log.topic_id()
    if not dry_run:
        log.start()
    letters = _read(settings, lambda letter: letter.resolved is None and wanted.meets(letter))
    letters = sorted(letters, key=in_order)[:limit]
    totals = Totals()
    if letters:
        job = Replay(
            log, _definitions(settings), resolve_options(settings), SystemClock(), settings.catalog, topic_id
        )
        _run(job, letters, totals, rate, dry_run=dry_run)
    _print(totals, len(letters), dry_run=dry_run, as_json=as_json)
    if totals.outcomes[Outcome.FAILED.value] and not dry_run:
        sys.exit(FAILED)


def _definitions(settings: Settings) -> Callable[[], Projection]:
    reader = LogReader(kafka_connection(settings))
    control = KafkaControl(reader, kafka_connection(settings), settings.catalog, settings.partitions)
    known: list[Projection] = []

    def in_force() -> Projection:
        published = control.refresh(settled=True)
        published.refuse_half_moved()
        if not known or known[0].numbers != published.in_force(settings.partitions):
            found = projected(published, settings.partitions, room(settings))
            if found is None:
                raise InvalidInputError("no definitions are published yet: start a worker first")
            known[:] = [found]
        return known[0]

    return in_force


def _run(
    job: Replay, letters: list[DeadLetter], totals: Totals, rate: float | None, *, dry_run: bool
) -> None:
    most = MOST_LETTERS if rate is None else max(1, min(MOST_LETTERS, round(rate)))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("dead letters", total=len(letters))
        begun, done = time.monotonic(), 0
        for results in job.run(letters, most, dry_run=dry_run):
            totals.add(results, _NAMED)
            progress.advance(task, len(results))
            done += len(results)
            if rate is not None and done < len(letters):
                time.sleep(max(0.0, begun + done / rate - time.monotonic()))


def _print(totals: Totals, letters: int, *, dry_run: bool, as_json: bool) -> None:
    outcomes = {one.value: totals.outcomes[one.value] for one in Outcome}
    dropped = dict(sorted(totals.dropped.items()))
    others = [
        {"id": one.letter.id, "outcome": one.outcome.value, "reason": one.letter.reason.value, "why": one.why}
        for one in totals.others
    ]
    if as_json:
        result = {"dry_run": dry_run, "letters": letters, **outcomes, "dropped": dropped, "others": others}
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for one in others:
        click.echo(f"{str(one['id'])[:_SHORT_ID]}  {one['outcome']}  {one['reason']}  {one['why']}")
    would = "would be " if dry_run else ""
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
    click.echo(f"{letters:,} dead letters{f': {would}' if counts else ''}{counts}")
    if dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
        click.echo(f"replayed to no effect: {reasons}")


# --- what ends every worker ---------------------------------------------------------------------------------------


@command.command(name="set-aside")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
def set_aside(topic: str, partition: int, offset: int) -> None:
    """Make the record at that place a dead letter, though it looks like one of a newer release.

    A worker that meets a record of a format that it does not know ends, as only the release that wrote it can read
    it. Where none of yours has, somebody else writes to our topics: say so with the place that the worker names, and
    start the workers again. A release that knows the format can replay the letter.
    """
    settings = load_settings()
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    catalog = settings.catalog
    if topic not in (catalog.profile_events.name, catalog.memberships.name):
        raise InvalidInputError(
            f"{topic}: records of {catalog.profile_events.name} and {catalog.memberships.name} can be set aside; of any other "
            "topic of ours each record is state, and only the release that wrote it may go on"
        )
    reader = LogReader(kafka_connection(settings))
    log = KafkaReplayLog(reader, _admin(settings), kafka_connection(settings), catalog, settings.partitions)
    first, end = log.kept(topic).get(partition, (0, 0))
    found = log.records_at(topic, partition, [offset]) if first <= offset < end else {}
    if offset not in found:
        raise InvalidInputError(f"{topic} has no record in partition {partition} at offset {offset}")
    if not _is_newer(found[offset].value or b"", packed=topic == catalog.profile_events.name):
        raise InvalidInputError(
            f"the record of {topic} in partition {partition} at offset {offset} is of no newer format: it ends no worker"
        )
    place = topic, partition, offset
    record = SetAsideRecord(
        topic=topic, partition=partition, offset=offset, written_at=SystemClock().now_ms()
    )
    control = KafkaControl(reader, kafka_connection(settings), catalog, settings.partitions)
    control.publish(lambda published: None if place in published.set_aside else record)
    click.echo("set aside: start the workers again")


def _is_newer(value: bytes, *, packed: bool) -> bool:
    try:
        if not packed:
            refuse_newer_json("record", value)
        elif is_packed(value):
            refuse_newer_packed("record", value)
            event = msgspec.msgpack.decode(value, type=ProfileEvent)
            if event.linking is not None and event.linking.state is not None:
                refuse_newer_packed("record", event.linking.state)
    except NewerFormatError:
        return True
    except UNDECODABLE:
        return False
    return False
