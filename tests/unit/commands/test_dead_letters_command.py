"""What `dead-letters` refuses before it asks Kafka for anything, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from app.commands import dead_letters
from app.domain.dead_letters import as_resolved, failed_again
from app.errors import InvalidInputError
from app.pipeline.replay import Outcome, Result, Totals
from schemas.dead_letter import DeadLetter, Origin, Reason

LETTER = DeadLetter(
    id="ab" * 32,
    stage="resolve",
    reason=Reason.TOO_LARGE,
    detail="the record is too large",
    origin=Origin(topic="source", partition=2, offset=50),
    first_failed_at=1_767_225_600_000,
    last_failed_at=1_767_225_600_000,
)


@pytest.mark.parametrize("name", ["list", "replay"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "yesterday"], "no instant with a zone"),
        (["--until", "2026-01-01T00:00:00"], "no instant with a zone"),
        (["--offsets", "20-10"], "no range of offsets"),
        (["--offsets", "-5"], "no range of offsets"),
        (["--offsets", "a-b"], "no range of offsets"),
        (["--stage", "batch"], "is not one of"),
        (["--reason", "bad_luck"], "is not one of"),
        (["--code", "x"], "is not a valid integer"),
        (["--limit", "0"], "range"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(dead_letters.command, [name, *arguments])
    assert result.exit_code == 2
    assert says in result.output


def test_a_rate_of_nothing_is_refused() -> None:
    result = CliRunner().invoke(dead_letters.command, ["replay", "--rate", "0"])
    assert result.exit_code == 2


def test_a_blank_profile_is_refused() -> None:
    result = CliRunner().invoke(dead_letters.command, ["list", "--profile", " "])
    assert isinstance(result.exception, InvalidInputError)


def test_an_address_is_looked_for_by_its_hash() -> None:
    found = dead_letters._filter("Ann.Lee@Example.com", (), (), (), (), ())
    assert all("@" not in name for name in (*found.profiles, *found.keys))
    assert "email:b7e0d8372a47f54bbefeb251ab9ac1e9e6b2d1983263de10196101be3961ed23" in found.profiles


def test_a_letter_is_one_line() -> None:
    again = failed_again(LETTER, Reason.INVALID_JSON, "the record is not JSON", 1_767_225_660_000)
    assert dead_letters._line(again) == (
        "abababababababab  2026-01-01T00:01:00Z  resolve  invalid_json  source[2]@50  2 attempts  "
        "the record is not JSON"
    )


def test_what_came_of_a_replay_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Totals()
    results = [
        Result(as_resolved(LETTER, "replayed"), Outcome.REPLAYED, dropped="not_needed"),
        Result(as_resolved(LETTER, "replayed"), Outcome.REPLAYED),
        Result(LETTER, Outcome.FAILED, "the record is too large"),
        Result(LETTER, Outcome.WAITING, "not yet"),
    ]
    totals.add(results, 1)
    dead_letters._print(totals, 4, dry_run=True, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "abababababababab  failed  too_large  the record is too large",
        "4 dead letters: would be 2 replayed, 1 failed, 1 waiting",
        "replayed to no effect: not_needed 1",
    ]


class Job:
    """Replays at once, and notes the sizes of what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, letters: list[DeadLetter], most: int, *, dry_run: bool) -> Iterator[list[Result]]:
        assert dry_run
        for start in range(0, len(letters), most):
            chunk = letters[start : start + most]
            self.asked.append(len(chunk))
            yield [Result(letter, Outcome.REPLAYED) for letter in chunk]


@pytest.mark.parametrize(
    ("rate", "chunks", "pauses"),
    [(None, [5], []), (2.0, [2, 2, 1], [1.0, 1.0]), (0.5, [1] * 5, [2.0] * 4), (1e9, [5], [])],
)
def test_so_many_letters_a_second(
    monkeypatch: pytest.MonkeyPatch, rate: float | None, chunks: list[int], pauses: list[float]
) -> None:
    slept: list[float] = []
    # Time passes by these pauses alone.
    monkeypatch.setattr("app.commands.dead_letters.time.sleep", slept.append)
    monkeypatch.setattr("app.commands.dead_letters.time.monotonic", lambda: sum(slept))
    job, totals = Job(), Totals()
    dead_letters._run(job, [LETTER] * 5, totals, rate, dry_run=True)  # type: ignore[arg-type] # what it needs of one
    assert (job.asked, slept) == (chunks, pauses)
    assert totals.outcomes == {"replayed": 5}


@pytest.mark.parametrize("id_", ["", "  "])
def test_a_blank_id_is_the_beginning_of_none(id_: str) -> None:
    result = CliRunner().invoke(dead_letters.command, ["show", id_])
    assert isinstance(result.exception, InvalidInputError)
    assert str(result.exception).startswith("ID is blank")
