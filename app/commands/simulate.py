"""`simulate`: the transitions that a file of events makes, without Kafka."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click
import orjson

from app.adapters.definition_files import read_definitions
from app.adapters.settings_options import resolve_options, room
from app.domain.conditions import compile_audiences
from app.domain.instants import format_instant, parse_instant
from app.domain.reverse_etl import refuse_row_topics
from app.domain.simulation import BadLine, simulate
from app.errors import InvalidInputError
from app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.simulation import Transition

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Of a line that is too long no more is read at once; the rest is skipped.
_CHUNK_BYTES: Final = 1_048_576 + 2


@click.command()
@click.option("--audiences", required=True, metavar="FILE", help="Audience definitions: a file or a folder.")
@click.option(
    "--events", required=True, metavar="FILE", help="Segment calls, one JSON object per line; - is stdin."
)
@click.option("--until", metavar="INSTANT", help="Stop the clock here, as 2026-01-31T00:00:00Z.")
def command(audiences: str, events: str, until: str | None) -> None:
    """Compute memberships from a file of events, as the worker would, and print every transition.

    Lines are taken in their order; the clock is each line's received time (receivedAt, else timestamp) and stops
    at the last line's, or at --until: changes that time alone makes appear at their own instant. Lines that cannot
    be used are named on stderr.
    """
    settings = load_settings()
    definitions = read_definitions(Path(audiences), settings.profile_events)
    for warning in definitions.warnings:
        click.echo(f"warning: {warning}", err=True)
    refuse_row_topics(definitions.audiences, settings.source_topic)
    kept = room(settings)
    plan = compile_audiences(definitions.audiences, definitions.traits, room=kept)
    options = resolve_options(settings)
    limit = None if until is None else _instant(until)
    out = click.get_binary_stream("stdout")
    bad_lines = 0
    with _opened(events) as stream:
        for item in simulate(plan, _lines(stream), limit, options):
            if isinstance(item, BadLine):
                bad_lines += 1
                click.echo(f"line {item.number}: {item.refusal.reason}: {item.refusal.detail}", err=True)
            else:
                out.write(_written(item))
        out.flush()
    if bad_lines:
        click.echo(f"{bad_lines:,} bad {'line was' if bad_lines == 1 else 'lines were'} left out", err=True)
    cut = kept.cuts.number
    if cut:
        values = "1 value was" if cut == 1 else f"{cut:,} values were"
        click.echo(
            f"{values} cut off: AUDIENCE_SYNC_VALUE_ITEMS and AUDIENCE_SYNC_VALUE_CHARACTERS say how much is kept",
            err=True,
        )


def _instant(text: str) -> int:
    instant = parse_instant(text)
    if instant is None:
        raise InvalidInputError("--until takes an ISO 8601 instant with a zone, such as 2026-01-31T00:00:00Z")
    return instant


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield click.get_binary_stream("stdin")
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below; only opening may fail in these words
    except OSError as error:
        raise InvalidInputError(f"--events {name}: cannot be read: {error.strerror}") from error
    with stream:
        yield stream


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines without their ends; of one that is far too long, its beginning."""
    first = True
    while line := stream.readline(_CHUNK_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(_CHUNK_BYTES)
        yield (line.removeprefix(_BYTE_ORDER_MARK) if first else line).rstrip(b"\r\n")
        first = False


def _written(transition: Transition) -> bytes:
    line = {
        "at": format_instant(transition.at),
        "audience": transition.audience,
        "profile": transition.profile,
        "member": transition.member,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
