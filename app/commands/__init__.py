"""The command line, one file per command; a command's module is imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from app.commands.output import OutputError, ReaderGoneError, discard_output, watch_output
from app.errors import AudienceSyncError

COMMANDS = {
    "audiences": "see and change the audiences that workers run",
    "dead-letters": "list, show, replay or set aside what could not be processed",
    "demo": "replay real purchases through a whole local system and check the result",
    "doctor": "check Kafka, topics, definitions, token and Facebook, and say what to do",
    "events": "list the events and properties that the source topic has",
    "explain": "show which audiences a profile is in, and why",
    "forget": "forget a person: out of every audience, and nothing is kept",
    "kafka": "run a single-node Apache Kafka in the foreground",
    "normalize": "normalise and hash identifiers, one JSON object per line",
    "produce": "send a file of events to the source topic",
    "reconcile": "compare members as state, topics and Facebook have them, and say what repairs a difference",
    "sandbox": "run a local stand-in of the Graph API in the foreground",
    "settings": "show the settings in force and where each comes from",
    "simulate": "compute memberships from a file of events, without Kafka",
    "topics": "create the topics, show how they are laid out, and change their number of partitions",
    "validate": "check audience definitions",
    "worker": "run the stream processor",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"app.commands.{cmd_name.replace('-', '_')}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"app.commands.{cmd_name}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table above, without importing every module."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="audience-sync")
def cli() -> None:
    """Audience memberships from Segment events on Kafka, synced to Facebook Custom Audiences."""


def main() -> None:
    """Entry point: 0 ok, 1 failed, 2 usage or definitions, 3 unreachable, 130 interrupted.

    A result that cannot be written is a failure; a reader who has seen enough of it, as `head` has, is none.
    """
    watch_output()
    try:
        try:
            status = _run()
        finally:
            sys.stdout.flush()
    except ReaderGoneError:
        discard_output()
        status = 0
    except OutputError as error:
        discard_output()
        click.echo(f"error: cannot write the result: {error}", err=True)
        status = 1
    sys.exit(status)


def _run() -> int:
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AudienceSyncError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_status
    except (click.Abort, KeyboardInterrupt):
        return 130
    return status if isinstance(status, int) else 0
