"""What `topics` refuses before it looks for a Kafka."""

from __future__ import annotations

import pytest
from click import UsageError
from click.testing import CliRunner

from app.commands.topics import command
from app.errors import InvalidInputError


def test_repartition_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="`topics repartition` is not supported yet"):
        CliRunner().invoke(command, ["repartition"], catch_exceptions=False)


def test_anything_else_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="unexpected extra argument \\(list\\)"):
        CliRunner().invoke(command, ["list"], catch_exceptions=False, standalone_mode=False)
