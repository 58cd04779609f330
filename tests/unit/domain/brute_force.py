"""An oracle for memberships: it keeps every call ever made and recomputes truth from all of them, at every instant
at which anything could change. Slow on purpose, and it shares no code with the application.

It reads conditions in the language of audiences.yaml, as plain data; durations are whole hours here (`36h`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR

MISSING = (None,)


@dataclass
class Call:
    """A call as the tests make it; `received` and `timestamp` in milliseconds."""

    kind: str
    profile: str
    received: int
    timestamp: int
    message_id: str
    event: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    source: str | None = None


def hours(text: str) -> int:
    assert text.endswith("h")
    return int(text[:-1]) * HOUR


def number(value: Any) -> Fraction | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return Fraction(value) if isinstance(value, int | float) else Fraction(str(value))
    except ValueError:
        return None


def satisfied(operator: str, value: Any, operand: Any) -> bool:
    """One operator, for scalars of the kinds that the tests generate."""
    if operand is None:
        return False
    left, right = number(value), None if isinstance(operand, list) else number(operand)
    if operator == "exists":
        return (value is not None) is operand
    if operator == "not_contains":
        return value is None or str(operand) not in str(value)
    if value is None:
        return False
    if operator == "equals":
        if isinstance(value, bool) or isinstance(operand, bool):
            return str(value).lower() == str(operand).lower()
        both_text = isinstance(value, str) and isinstance(operand, str)
        return bool(value == operand) if both_text or left is None or right is None else left == right
    if operator == "not_equals":
        return not satisfied("equals", value, operand)
    if operator == "any_of":
        return any(satisfied("equals", value, option) for option in operand)
    if operator == "none_of":
        return not satisfied("any_of", value, operand)
    if operator == "contains":
        return str(operand) in str(value)
    if left is None or right is None:
        return False
    return {
        "greater_than": left > right,
        "less_than": left < right,
        "at_least": left >= right,
        "at_most": left <= right,
    }[operator]


class History:
    """Everything known of one profile at a moment."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def trait(self, name: str) -> Any:
        setting = [call for call in self.calls if call.kind == "identify" and name in call.traits]
        if not setting:
            return None
        return max(setting, key=lambda call: (call.timestamp, call.message_id)).traits[name]

    def holds(self, condition: dict[str, Any], now: int, horizon: int) -> bool:
        if "all" in condition:
            return all(self.holds(part, now, horizon) for part in condition["all"])
        if "any" in condition:
            return any(self.holds(part, now, horizon) for part in condition["any"])
        if "not" in condition:
            return not self.holds(condition["not"], now, horizon)
        if "trait" in condition:
            value = self.trait(condition["trait"])
            return all(
                self._compare(name, value, operand) for name, operand in condition.items() if name != "trait"
            )
        return self._event(condition, now, horizon)

    def _compare(self, operator: str, value: Any, operand: Any) -> bool:
        if isinstance(operand, dict):
            operand = self.trait(operand["trait"])
        return satisfied(operator, value, operand)

    def _event(self, condition: dict[str, Any], now: int, horizon: int) -> bool:
        counted = [call for call in self.calls if self._counts(call, condition, now, horizon)]
        (bound, limit) = next(iter(condition.get("count", {"at_least": 1}).items()))
        n = len(counted)
        enough = {"at_least": n >= limit, "at_most": n <= limit, "exactly": n == limit}[bound]
        return enough and self._aggregate(condition, counted)

    def _counts(self, call: Call, condition: dict[str, Any], now: int, horizon: int) -> bool:
        if call.kind != "track" or call.event != condition["event"]:
            return False
        if call.source is not None and call.source in condition.get("exclude_sources", []):
            return False
        v = call.timestamp
        if "between" in condition:
            far, near = map(hours, condition["between"])
            in_window = v + near <= now < v + far
        elif "within" in condition:
            in_window = v <= horizon and now < v + hours(condition["within"])
        else:
            in_window = v <= horizon
        return in_window and all(
            self._compare(operator, call.properties.get(path), operand)
            for path, comparisons in condition.get("where", {}).items()
            for operator, operand in comparisons.items()
        )

    def _aggregate(self, condition: dict[str, Any], counted: list[Call]) -> bool:
        for name in ("sum", "average", "min", "max"):
            if name in condition:
                return self._aggregated(name, condition[name], counted)
        return True

    def _aggregated(self, name: str, aggregate: dict[str, Any], counted: list[Call]) -> bool:
        values = [number(call.properties.get(aggregate["property"])) for call in counted]
        numbers = [value for value in values if value is not None]
        if not numbers:
            return False
        total = {
            "sum": sum(numbers, Fraction()),
            "average": sum(numbers, Fraction()) / len(numbers),
            "min": min(numbers),
            "max": max(numbers),
        }[name]
        result = float(round(total, 6)) if name in ("sum", "average") else float(total)
        return all(
            self._compare(operator, result, operand)
            for operator, operand in aggregate.items()
            if operator != "property"
        )


def ages(condition: dict[str, Any]) -> Iterator[int]:
    """Every age at which an event may come into or leave a window of the condition."""
    yield 0
    for part in (*condition.get("all", ()), *condition.get("any", ())):
        yield from ages(part)
    if "not" in condition:
        yield from ages(condition["not"])
    if "within" in condition:
        yield hours(condition["within"])
    if "between" in condition:
        yield from map(hours, condition["between"])


class Oracle:
    """Memberships of every profile in every audience, and their transitions; the clock is moved by the calls."""

    def __init__(self, audiences: dict[str, dict[str, Any]], early: int = 0) -> None:
        self.audiences = audiences
        self.early = early
        self.clock = 0
        self.profiles: dict[str, History] = {}
        self.remembered: dict[tuple[str, str], int] = {}
        self.members: set[tuple[str, str]] = set()
        self.transitions: list[tuple[int, str, str, bool]] = []

    def apply(self, call: Call) -> None:
        self.move_clock(call.received)
        history = self.profiles.setdefault(call.profile, History())
        if call.kind == "track":
            remembered = self.remembered.get((call.profile, call.message_id))
            if remembered is not None and self.clock < remembered + DAY:
                return self._look(self.clock)
            self.remembered[call.profile, call.message_id] = self.clock
        history.calls.append(call)
        return self._look(self.clock)

    def move_clock(self, instant: int) -> None:
        edges = {
            call.timestamp + age - early
            for history in self.profiles.values()
            for call in history.calls
            for condition in self.audiences.values()
            for age in ages(condition)
            for early in (0, self.early)
        }
        for edge in sorted(edges):
            if self.clock < edge <= instant:
                self.clock = edge
                self._look(edge)
        self.clock = max(self.clock, instant)

    def _look(self, now: int) -> None:
        for profile, history in self.profiles.items():
            for audience, condition in self.audiences.items():
                member = history.holds(condition, now, now + self.early)
                if member != ((audience, profile) in self.members):
                    self.members ^= {(audience, profile)}
                    self.transitions.append((now, audience, profile, member))

    def netted(self) -> list[tuple[int, str, str, bool]]:
        """The state before an instant compared with the state after it."""
        result = []
        instants: dict[tuple[int, str, str], list[bool]] = {}
        for at, audience, profile, member in self.transitions:
            instants.setdefault((at, audience, profile), []).append(member)
        for (at, audience, profile), changes in instants.items():
            if len(changes) % 2:
                result.append((at, audience, profile, changes[-1]))
        return sorted(result)
