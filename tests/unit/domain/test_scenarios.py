"""Situations that people describe audiences with, each with the instants at which one profile enters and leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from app.domain.instants import parse_instant
from app.domain.simulation import Transition, simulate

SCENARIOS = json.loads(Path(__file__).with_name("scenarios.json").read_text())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
def test_scenario(scenario: dict[str, Any]) -> None:
    audience = {"name": "audience", **scenario["audience"]}
    audiences = [audience, *scenario.get("others", [])]
    text = json.dumps({"audiences": audiences, "traits": scenario.get("traits", {})})
    definitions = parse_definitions([Document("audiences.yaml", text)])
    plan = compile_audiences(definitions.audiences, definitions.traits)
    lines = [json.dumps({"userId": "user_1", **call}).encode() for call in scenario["calls"]]
    result = list(simulate(plan, lines, parse_instant(scenario["until"])))
    assert all(isinstance(item, Transition) for item in result), result
    transitions = [item for item in result if isinstance(item, Transition)]
    found = [(item.at, item.member) for item in transitions if item.audience == "audience"]
    assert found == [(parse_instant(at), member) for at, member in scenario["transitions"]]
