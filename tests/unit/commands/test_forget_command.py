"""What `forget` refuses before it asks Kafka for anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from app.commands.forget import command
from app.errors import InvalidInputError


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("group_id:g1", "`group_id:` names an account, and only people are forgotten"),
        (" ", "PROFILE is blank"),
        (
            "x" * 32_769,
            "PROFILE has more than 32,768 bytes, which is more than a whole call may have (AUDIENCE_SYNC_MAX_EVENT_BYTES)",
        ),
        ("\u00e4" * 20_000, "PROFILE has more than 32,768 bytes"),
    ],
)
def test_who_is_no_person_is_not_forgotten(profile: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = CliRunner().invoke(command, [profile])
    assert isinstance(result.exception, InvalidInputError)
    assert str(result.exception).startswith(said)
