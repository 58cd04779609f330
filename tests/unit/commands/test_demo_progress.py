"""What is shown while the demo runs, above all over the lives of a worker that is killed."""

from __future__ import annotations

from typing import Any

from app.commands.demo_progress import PLAIN_SECONDS, PlainProgress, Totals
from app.commands.demo_readings import WorkerStats


def stats(evaluated: int, members: int, entered: int, exited: int, sent: int) -> WorkerStats:
    stage: dict[str, Any] = {"in": 0, "rate": None, "lag": 0}
    destination = {"id": "lapsed", "state": "live", "sent": sent, "pending": 4}
    return WorkerStats.model_validate(
        {
            "stages": {
                "resolve": {"in": 9, "rate": 1.0, "lag": 30},
                "evaluate": {"in": evaluated, "rate": 1_234.5, "lag": 4},
                "deliver": stage,
            },
            "audiences": {
                "lapsed": {
                    "members": members,
                    "entered": entered,
                    "exited": exited,
                    "destinations": [destination],
                }
            },
            "dead_letters": {"rejected_row": 2},
        }
    )


def test_each_life_counts_from_zero_and_what_it_counted_is_kept() -> None:
    totals = Totals()
    totals.observe(0, stats(evaluated=100, members=10, entered=15, exited=5, sent=0))
    totals.observe(0, stats(evaluated=200, members=12, entered=20, exited=8, sent=3))
    # Killed before it knew its audiences, then killed again.
    young = stats(evaluated=1, members=0, entered=0, exited=0, sent=0)
    totals.observe(1, young.model_copy(update={"audiences": {}}))
    totals.observe(2, stats(evaluated=50, members=12, entered=0, exited=0, sent=7))
    lapsed = totals.audiences["lapsed"]
    assert (totals.evaluated, lapsed.entered, lapsed.exited, lapsed.sent) == (251, 20, 8, 10)
    assert totals.dead_lettered == 6
    # What is now, not what has been counted.
    assert (lapsed.members, lapsed.pending, totals.lag) == (12, 4, 34)


def test_without_a_terminal_a_plain_line_appears_every_few_seconds() -> None:
    written: list[str] = []
    clock = iter([0.0, 1.0, PLAIN_SECONDS - 0.1, PLAIN_SECONDS, PLAIN_SECONDS + 1])
    progress = PlainProgress(written.append, lambda: next(clock))
    totals = Totals(kills=3)
    for evaluated in (100, 200, 300, 400, 500):
        totals.observe(0, stats(evaluated, members=10, entered=15, exited=5, sent=9))
        progress.show(totals)
    assert [line.split(", members")[0] for line in written] == [
        "1,234 events/s, evaluated 100, lag 34, dead-lettered 2, kills 3",
        "1,234 events/s, evaluated 400, lag 34, dead-lettered 2, kills 3",
    ]
    assert "members 10, entered 15, exited 5, sent 9, pending 4" in written[0]
