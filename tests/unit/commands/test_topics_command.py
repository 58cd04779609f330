"""What `topics` refuses before it looks for a Kafka."""

from __future__ import annotations

import pytest
from click import UsageError
from click.testing import CliRunner

from app.commands.topics import command


def test_help_says_what_json_is() -> None:
    """A list of topics: whoever reads it would look for a key of an object in vain."""
    assert "Print one JSON array instead of a table." in CliRunner().invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "No such command 'list'"),
        (["repartition"], "Missing option '--partitions'"),
        (["repartition", "--partitions", "0"], "0 is not in the range"),
        (["--json", "repartition", "--partitions", "3"], "give --json behind the subcommand"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as found:
        CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert said in found.value.format_message()
