from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from app.commands.normalize import command
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-c", "from app.commands import main; main()", "normalize"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def both(text: str) -> dict[str, str]:
    return {"normalized": text, "value": sha256(text)}


def run(lines: bytes | str, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """What comes out on stdout, line by line, and all of stderr."""
    result = CliRunner().invoke(command, list(arguments), input=lines, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == "" or result.stdout.endswith("\n")
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def run_one(fields: object, *arguments: str) -> dict[str, Any]:
    (line,), _ = run(json.dumps(fields), *arguments)
    return line


def test_every_column_in_order() -> None:
    fields = {
        "value": "44.5",
        "mobile_advertiser_id": "AB1234CD-E123-12FG-J123-000000000000",
        "country": "United States",
        "zip": "94035-1234",
        "state": "New York",
        "city": "St. Louis",
        "gender": "Female",
        "name": {"first": "Jean-Luc", "last": "O'Brien", "first_initial": "Émile"},
        "birthday": "1990-05-04",
        "birth": {"month": "July"},
        "phone": "(650) 555-1212",
        "email": " Mary@Example.com ",
        "external_id": 42,
    }
    columns = run_one(fields)
    madid = "ab1234cd-e123-12fg-j123-000000000000"
    assert list(columns.items()) == [
        ("EXTERN_ID", {"normalized": "42", "value": "42"}),
        ("EMAIL", both("mary@example.com")),
        ("PHONE", both("16505551212")),
        ("GEN", both("f")),
        ("DOBY", both("1990")),
        ("DOBM", both("07")),
        ("DOBD", both("04")),
        ("LN", both("obrien")),
        ("FN", both("jeanluc")),
        ("FI", both("é")),
        ("CT", both("stlouis")),
        ("ST", both("ny")),
        ("ZIP", both("94035")),
        ("COUNTRY", both("us")),
        ("MADID", {"normalized": madid, "value": madid}),
        ("LOOKALIKE_VALUE", {"normalized": "44.5", "value": 44.5}),
    ]


def test_a_hash_has_no_normalized_text() -> None:
    digest = sha256("mary@example.com")
    assert run_one({"email": digest.upper()}) == {"EMAIL": {"value": digest}}


def test_unusable_fields_have_a_reason_and_blank_ones_nothing() -> None:
    columns = run_one(
        {"email": "mary@example.com.", "phone": ["1"], "gender": True, "city": "N/A", "zip": None}
    )
    assert {key: list(column) for key, column in columns.items()} == {
        "EMAIL": ["error"],
        "PHONE": ["error"],
        "GEN": ["error"],
    }


@pytest.mark.parametrize("year", [-1, 0, 1])
def test_years_of_birth_end_with_the_clocks_year(year: int) -> None:
    this_year = datetime.now(UTC).year
    columns = run_one({"birth": {"year": this_year + year}})
    assert list(columns["DOBY"]) == (["error"] if year > 0 else ["normalized", "value"])


def test_the_country_option_guides_and_is_not_sent() -> None:
    fields = {"phone": "030 901820", "state": "Georgia", "zip": "94035-1234"}
    assert run_one(fields, "--country", "de") == {
        "PHONE": both("4930901820"),
        "ST": both("georgia"),
        "ZIP": both("940351234"),
    }
    assert run_one(fields | {"country": "US"}, "--country", "DE")["ZIP"] == both("94035")


def test_the_other_readings_of_names() -> None:
    fields = {"name": {"first": "Mary  Ann", "first_initial": "É"}}
    assert run_one(fields) == {"FN": both("maryann"), "FI": both("é")}
    assert run_one(fields, "--keep-name-blanks") == {"FN": both("mary ann"), "FI": both("é")}
    assert run_one(fields, "--romanise-initial") == {"FN": both("maryann"), "FI": both("e")}


@pytest.mark.parametrize("country", ["XX", "UK", "USA", "Germany", "", "1"])
def test_a_country_option_that_is_no_code_is_refused(country: str) -> None:
    result = CliRunner().invoke(command, ["--country", country], input='{"email": "a@b.co"}\n')
    assert isinstance(result.exception, InvalidInputError)
    assert "--country" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   ",
        b"\r",
        b"mary@example.com",
        b'{"email": "mary@example.com"',
        b'{"email": "mary@example.com"} {}',
        b'["mary@example.com"]',
        b'"mary@example.com"',
        b"null",
        b"5",
        b'{"value": NaN}',
        b'{"email": "mary@ex\xffample.com"}',
        b'{"email": "mary@example.com\x00"}',
        b"[" * 100_000,
        b'{"value": ' + b"9" * 5_000 + b', "email": "\\ud800"}',  # more digits than Python converts
    ],
)
def test_a_line_that_is_no_object_gives_a_line_with_an_error(line: bytes) -> None:
    outputs, stderr = run(b'{"gender": "f"}\n' + line + b'\n{"gender": "m"}\n')
    assert [list(output) for output in outputs] == [["GEN"], ["error"], ["GEN"]]
    assert "mary" not in outputs[1]["error"]
    assert stderr == ""


def test_half_a_character_spoils_one_field_only() -> None:
    columns, _ = run(b'{"email": "\\ud800@example.com", "gender": "f", "city": "M\\u00fcnchen"}\n')
    assert list(columns[0]["EMAIL"]) == ["error"]
    assert columns[0]["GEN"] == both("f")
    assert columns[0]["CT"] == both("munchen")


@pytest.mark.parametrize(
    ("lines", "outputs"),
    [
        (b"", []),
        (b"{}", [{}]),
        (b'{}\n{"email": " "}\n', [{}, {}]),
        (b'\xef\xbb\xbf{"gender": "f"}\r\n{"gender": "f"}', [{"GEN": both("f")}] * 2),
        # A line separator of Unicode is no end of a line.
        ('{"name": {"first": "Mary\u2028Ann"}}'.encode(), [{"FN": both("maryann")}]),
    ],
)
def test_one_line_out_for_each_line_in(lines: bytes, outputs: list[dict[str, Any]]) -> None:
    assert run(lines)[0] == outputs


def test_keys_that_are_not_read_are_named_once() -> None:
    first = {
        "emial": "a@b.co",
        "firstName": "Mary",
        "birth": {"years": 1},
        "loyalty": 1,
        "mary@example.com": 1,
    }
    outputs, stderr = run(f"{json.dumps(first)}\n{json.dumps(first)}\n")
    assert outputs == [{}, {}]
    assert stderr.splitlines() == [
        'note: line 1: the key "emial" is not read, did you mean "email"?',
        'note: line 1: the key "firstName" is not read, did you mean "name.first"?',
        'note: line 1: the key "birth.years" is not read, did you mean "birth.year"?',
        'note: line 1: the key "loyalty" is not read',
        "note: line 1: a key of 16 characters is not read",
    ]


def test_an_external_id_is_clear_text_and_help_says_when_its_hash_is_sent() -> None:
    found, _ = run('{"external_id": "jane@example.com"}\n')
    assert found == [{"EXTERN_ID": {"normalized": "jane@example.com", "value": "jane@example.com"}}]
    said = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert (
        "EXTERN_ID is shown in clear text, whatever it is; a delivery sends one that looks like an e-mail"
        in said
    )


def test_notes_end_somewhere() -> None:
    _, stderr = run("".join(f'{{"key_{number}": 1}}\n' for number in range(1_000)))
    assert len(stderr.splitlines()) == 100


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        # Buffered like any program in a pipe, so that a missing flush shows.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_as_a_program_each_line_is_answered_before_the_next_is_read() -> None:
    with running("--country", "US") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for number in ("650-555-1212", "650-555-1213"):
            process.stdin.write(json.dumps({"phone": number}).encode() + b"\n")
            process.stdin.flush()
            digits = "1" + number.replace("-", "")
            assert json.loads(process.stdout.readline()) == {"PHONE": both(digits)}
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with running() as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b'{"gender": "f"}\n')
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b'{"gender": "f"}\n' * 10_000)
            process.stdin.flush()
        assert process.stderr.read() == b""
        assert process.wait() == 0
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def test_as_a_program_a_wrong_country_is_status_2() -> None:
    result = subprocess.run(
        [*PROGRAM, "--country", "Germany"], cwd=ROOT, input=b"", capture_output=True, check=False
    )
    assert result.returncode == 2
    assert result.stdout == b""
    assert result.stderr.startswith(b"error: --country takes a two-letter country code")
