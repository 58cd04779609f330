from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.commands.simulate import command
from app.errors import InvalidInputError

AUDIENCES = """
audiences:
  - {name: Bought in the last 30 days, when: {event: Order Completed, within: 30d}}
"""
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "userId": "user_1",
    "messageId": "m1",
    "timestamp": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def audiences(tmp_path: Path) -> str:
    file = tmp_path / "audiences.yaml"
    file.write_text(AUDIENCES)
    return str(file)


def run(audiences: str, *arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(
        command, ["--audiences", audiences, *arguments], input=stdin, catch_exceptions=False
    )


def written(tmp_path: Path, *lines: bytes) -> str:
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"\n".join(lines))
    return str(file)


def order(**fields: object) -> bytes:
    return json.dumps({**ORDER, **fields}).encode()


def test_transitions_are_lines_of_json_in_order(audiences: str, tmp_path: Path) -> None:
    events = written(
        tmp_path, order(), order(userId="user_2", messageId="m2", timestamp="2026-01-01T00:00:00.5Z")
    )
    result = run(audiences, "--events", events, "--until", "2026-01-31T00:00:00Z")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "at": "2026-01-01T00:00:00Z",
            "audience": "bought_in_the_last_30_days",
            "profile": "user_1",
            "member": True,
        },
        {
            "at": "2026-01-01T00:00:00.500Z",
            "audience": "bought_in_the_last_30_days",
            "profile": "user_2",
            "member": True,
        },
        {
            "at": "2026-01-31T00:00:00Z",
            "audience": "bought_in_the_last_30_days",
            "profile": "user_1",
            "member": False,
        },
    ]


def test_bad_lines_are_counted_on_stderr_and_no_failure(audiences: str) -> None:
    lines = b"\xef\xbb\xbf" + b"\r\n".join([order(), b"nonsense", order(userId="", messageId="secret"), b""])
    result = run(audiences, "--events", "-", stdin=lines)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.splitlines() == [
        "line 2: invalid_json: the record is not JSON",
        "line 3: no_identity: userId and anonymousId are both missing or blank",
        "2 bad lines were left out",
    ]


def test_a_line_far_too_long_is_one_bad_line(audiences: str) -> None:
    long = order(properties={"text": "x" * 3_000_000})
    result = run(audiences, "--events", "-", stdin=long + b"\n" + order())
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.splitlines()[0] == "line 1: too_large: the record has more than 32,768 bytes"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--events", "nowhere.ndjson"], "nowhere.ndjson"),
        (["--events", "."], "cannot be read"),
        (["--events", "-", "--until", "2026-01-01"], "--until"),
        (["--events", "-", "--until", "tomorrow"], "--until"),
    ],
)
def test_unusable_arguments_say_what_was_expected(audiences: str, arguments: list[str], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        run(audiences, *arguments, stdin=b"")
    assert caught.value.exit_status == 2


def test_a_missing_audience_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        run(str(tmp_path / "none.yaml"), "--events", "-", stdin=b"")


def test_a_reader_that_has_seen_enough_is_no_failure(audiences: str, tmp_path: Path) -> None:
    lines = [order(userId=f"user_{number}", messageId=str(number)) for number in range(3_000)]
    program = "import sys; from app.commands import main; sys.argv[0] = 'audience-sync'; main()"
    arguments = ["simulate", "--audiences", audiences, "--events", written(tmp_path, *lines)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0


def test_rows_and_journeys_follow_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "audiences.yaml"
    file.write_text(
        "audiences:\n"
        "  - {name: Leads, source: reverse_etl, rows: {topic: segment.events}}\n"
        "  - {name: Step, source: engage}\n"
    )
    personas = {"computation_class": "journey_step", "computation_key": "step"}
    events = written(tmp_path, order(event="new"), order(context={"personas": personas}))

    def entered() -> list[str]:
        return [
            json.loads(line)["audience"] for line in run(str(file), "--events", events).stdout.splitlines()
        ]

    assert entered() == ["leads"]
    monkeypatch.setenv("AUDIENCE_SYNC_LEGACY_JOURNEYS", "true")
    assert entered() == ["leads", "step"]
    monkeypatch.setenv("AUDIENCE_SYNC_SOURCE_TOPIC", "other")
    with pytest.raises(InvalidInputError, match="the lines given here are calls of the source topic"):
        run(str(file), "--events", events)


def test_what_is_kept_of_a_profile_is_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "audiences.yaml"
    file.write_text(
        "audiences: [{name: A, when: {event: Order Completed, where: {p: {any_of: {trait: t.$}}}}}]"
    )
    identify = order(type="identify", event=None, messageId="m0", traits={"t": ["a", "b", "c"]})
    events = written(tmp_path, identify, order(properties={"p": "c"}))
    result = run(str(file), "--events", events)
    assert (len(result.stdout.splitlines()), result.stderr) == (1, "")
    monkeypatch.setenv("AUDIENCE_SYNC_VALUE_ITEMS", "2")
    result = run(str(file), "--events", events)
    assert result.stdout == ""
    assert result.stderr.startswith("1 value was cut off: ")
