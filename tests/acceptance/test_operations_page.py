"""docs/operations.md lists what there is: settings, topics, states, reasons, exit codes, last words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import app.errors
from app.domain.counters import STAGES
from app.settings import PREFIX, SETTINGS_FILE, Settings, load_settings
from schemas.dead_letter import DropReason, Reason
from schemas.sync import DestinationState
from tests.acceptance.markdown_pages import ROOT, blocks, read, table
from topics.catalog import Catalog
from topics.spec import DAY_MS, Cleanup, TopicSpec

PAGE = read("docs/operations.md")
# Named after what they configure.
UNPREFIXED = ("kafka_", "facebook_access_token", "facebook_app_secret")


def code(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def default_as_shown(default: Any) -> str:
    if default is None or default in ("", {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_is_listed_with_its_default() -> None:
    listed = [row[:2] for row in table(PAGE, "## Settings")]
    there_are = [
        [
            f"`{'' if name.startswith(UNPREFIXED) else PREFIX}{name.upper()}`",
            default_as_shown(field.get_default(call_default_factory=True)),
        ]
        for name, field in Settings.model_fields.items()
    ]
    assert listed == there_are


def test_the_settings_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "toml")
    path = tmp_path / "settings.toml"
    path.write_text(block, encoding="utf-8")
    monkeypatch.setenv(SETTINGS_FILE, str(path))
    settings = load_settings()
    assert settings.audiences == Path("/etc/audience-sync/audiences.yaml")
    assert settings.topic_prefix == "shop."
    assert settings.batch_seconds == 60
    assert settings.kafka_bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    options = {name: value.get_secret_value() for name, value in settings.kafka_options.items()}
    assert options == {"socket.keepalive.enable": "true"}


def cleanup_as_shown(spec: TopicSpec) -> str:
    if not spec.ours:
        return "yours"
    shown = {
        Cleanup.DELETE: "delete",
        Cleanup.COMPACT: "compact",
        Cleanup.COMPACT_DELETE: "compact and delete",
    }
    days = "" if spec.retention_ms is None else f", {spec.retention_ms // DAY_MS} days"
    return shown[spec.cleanup] + days


def test_every_topic_is_listed_in_flow_order() -> None:
    listed = [(row[0], row[2]) for row in table(PAGE, "## Topics")]
    specs = Catalog().all()
    assert listed == [(f"`{spec.name}`", cleanup_as_shown(spec)) for spec in specs]
    partitions = {spec.name: spec.partitions for spec in specs if spec.partitions is not None}
    assert partitions == {"segment.events": 4, "audience.control": 1}
    said = {
        row[0].strip("`"): row[1]
        for row in table(PAGE, "## Topics")
        if "partitions" in row[1] or "1 par" in row[1]
    }
    assert {name: int(re.findall(r"(\d+) partition", cell)[0]) for name, cell in said.items()} == partitions


def test_every_stage_state_and_reason_is_listed() -> None:
    assert [code(row[0])[0] for row in table(PAGE, "## `/stats`")] == list(STAGES)
    states = [code(row[0])[0] for row in table(PAGE, "### States of a destination")]
    assert sorted(states) == sorted(DestinationState)
    dropped = [
        name
        for row in table(PAGE, "### `dropped`: ended without effect, as intended")
        for name in code(row[0])
    ]
    assert sorted(dropped) == sorted(DropReason)
    dead = [
        name for row in table(PAGE, "### `dead_letters`: could not be processed") for name in code(row[0])
    ]
    assert sorted(dead) == sorted(Reason)


def test_the_exit_codes_of_errors_are_listed() -> None:
    listed = {int(row[0]) for row in table(PAGE, "## Exit codes")}
    kinds = [kind for kind in vars(app.errors).values() if isinstance(kind, type)]
    raised = {kind.exit_status for kind in kinds if issubclass(kind, app.errors.AudienceSyncError)}
    assert raised | {0, 130} == listed


def test_last_words_of_a_worker_are_quoted_from_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.py"))
    quotes = [code(row[0])[0] for row in table(PAGE, "## When a worker ends")]
    assert len(quotes) >= 5
    assert [quote for quote in quotes if quote not in source] == []
