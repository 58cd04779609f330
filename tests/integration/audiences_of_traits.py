"""Audiences that people enter and leave as a trait is set, and what is waited for while they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.integration.installation import Installation, WorkerProcess, wait_until

Make = Callable[..., Installation]

AUDIENCES = """
audiences:
  - {name: Active, when: {trait: active, equals: true}}
  - {name: Others, when: {trait: other, equals: true}}
"""


def destination(worker: WorkerProcess, key: str) -> dict[str, Any]:
    stats = worker.stats()
    found = (stats or {}).get("audiences", {}).get(key, {}).get("destinations") or [{"state": None}]
    return dict(found[0])


def wait_for(worker: WorkerProcess, condition: Callable[[], bool]) -> None:
    def holds() -> bool:
        assert worker.process.poll() is None, worker.said
        return condition()

    wait_until(holds, lambda: f"{worker.said}\n{json.dumps(worker.stats())}")


def wait_until_paused(worker: WorkerProcess, key: str) -> dict[str, Any]:
    wait_for(worker, lambda: destination(worker, key)["state"] == "paused")
    return destination(worker, key)


def wait_for_lags(worker: WorkerProcess) -> None:
    """Everything has been read and evaluated, and offered to destinations."""

    def read() -> bool:
        stages = (worker.stats() or {"stages": {}})["stages"]
        return bool(stages) and all(stages[name]["lag"] == 0 for name in ("resolve", "evaluate", "batch"))

    quiet = 0

    def at_rest() -> bool:
        nonlocal quiet
        quiet = quiet + 1 if read() else 0
        return quiet >= 15

    wait_for(worker, at_rest)


def identify(trait: str, value: bool, users: set[str]) -> list[dict[str, Any]]:
    return [{"type": "identify", "userId": user, "traits": {trait: value}} for user in sorted(users)]


def users(first: int, end: int) -> set[str]:
    return {f"user_{number}" for number in range(first, end)}


def listed(installation: Installation, key: str) -> dict[str, Any]:
    shown = json.loads(installation.command("audiences", "list", "--json").stdout)
    [audience] = [each for each in shown["audiences"] if each["key"] == key]
    return dict(audience["delivery"][key])
