"""The demo's verdict: it has to see every way in which the three can differ, and to say which audience it is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from app.commands.demo_result import AudienceResult, DemoResult, Effort

EFFORT = Effort(
    orders=69_659,
    customers=23_570,
    events=93_229,
    seconds=20.0,
    total_seconds=31.4,
    kills=1,
    own_exits=0,
    peak_memory=300 * 2**20,
    dead_letters=0,
)
SAME: dict[str, Any] = {
    "key": "lapsed",
    "engine": 2,
    "sandbox_count": 2,
    "sandbox_members": ["1", "2"],
    "sql_members": frozenset({"1", "2"}),
}


def result(**differing: Any) -> DemoResult:
    other = AudienceResult("vips", 0, 0, (), frozenset())
    return DemoResult((other, AudienceResult(**{**SAME, **differing})), EFFORT)


def printed(of: DemoResult) -> str:
    output = io.StringIO()
    of.print_table(Console(file=output, width=100))
    return output.getvalue()


def test_all_three_agree() -> None:
    assert result().agrees
    text = printed(result())
    assert "All three agree on 69,659 orders of 23,570 customers." in text
    assert "differs" not in text
    assert "93,229 events in 20.0 s (4,661 a second)" in text
    assert "peak memory 300 MB, killed once, ended by itself 0 times" in text


@pytest.mark.parametrize(
    ("differing", "told"),
    [
        ({"engine": 3}, "the engine holds 3, SQL counts 2"),
        ({"engine": None}, "the engine holds none, SQL counts 2"),
        ({"sandbox_count": 1}, "the sandbox holds 1, SQL counts 2"),
        # An audience that Facebook never got is not one without members.
        ({"sandbox_count": None, "sandbox_members": ()}, "the sandbox holds none, SQL counts 2"),
        # All sizes agree, but they are other people.
        ({"sandbox_members": ["1", "3"]}, "not in the sandbox: 2"),
        ({"sandbox_members": ["1", "3"]}, "in the sandbox, not by SQL: 3"),
        ({"sandbox_members": ["1", "1"]}, "in the sandbox twice: 1"),
        ({"sql_members": frozenset("12345678")}, "not in the sandbox: 3, 4, 5, 6, 7 and 1 more"),
    ],
)
def test_a_difference_is_told_with_its_audience(differing: dict[str, Any], told: str) -> None:
    found = result(**differing)
    assert not found.agrees
    assert f"lapsed: {told}" in printed(found).splitlines()
    assert "They differ" in printed(found)
    document = found.as_json()
    assert document["agrees"] is False
    assert document["audiences"][0]["differences"] == []
    assert told in document["audiences"][1]["differences"]


def test_the_table_has_a_line_for_each_audience() -> None:
    lines = [line.replace("│", " ").split() for line in printed(result(engine=3)).splitlines()]
    assert ["lapsed", "3", "2", "2", "differs"] in lines
    assert ["vips", "0", "0", "0", "same"] in lines


def test_json_has_the_effort_too() -> None:
    document = result().as_json()
    assert document["agrees"] is True
    assert document["audiences"][1] == {
        "audience": "lapsed",
        "engine": 2,
        "sandbox": 2,
        "sql": 2,
        "differences": [],
    }
    assert document["events_per_second"] == 4_661
    assert document["worker_kills"] == 1
    assert document["worker_peak_memory_bytes"] == 300 * 2**20
