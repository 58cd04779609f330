"""An oracle for memberships: it keeps every call ever made and recomputes truth from all of them, at every instant
at which anything could change. Slow on purpose, and it shares no code with the application.

It reads definitions in the language of audiences.yaml, as plain data; durations are whole hours here (`36h`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.unit.domain.brute_force_values import DAY, date, duration, found_at, hours, number, satisfied, text

AGGREGATES = ("sum", "average", "min", "max")


@dataclass
class Call:
    """A call as the tests make it; `received` and `timestamp` in milliseconds.

    `kind` engage is an identify call of Segment Engage whose `traits` claim memberships.
    """

    kind: str
    profile: str
    received: int
    timestamp: int
    message_id: str
    event: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    context: dict[str, Any] = field(default_factory=dict)


def whole_second(instant: int) -> int:
    """Message ids are remembered for a day that begins with the next whole second."""
    return -(-instant // 1_000) * 1_000


@dataclass
class Limits:
    """What an audience lets its event conditions see: calls received from `since` on, `lookback` milliseconds back."""

    since: int = -1
    lookback: int = 2**62


class Truth:
    """What holds of one profile at one moment, by every call of it so far."""

    def __init__(self, oracle: Oracle, profile: str, now: int) -> None:
        self.oracle = oracle
        self.profile = profile
        self.calls = oracle.profiles[profile]
        self.now = now
        self.horizon = now + oracle.early

    def member(self, key: str) -> bool:
        definition = self.oracle.audiences[key]
        created = self.oracle.created(key)
        if not definition.get("enabled", True) or (created is not None and self.now < created):
            return False
        if self.profile.startswith("anonymous") and not definition.get("include_anonymous", False):
            return False
        if definition.get("source") == "engage" and not self._newest("engage", key):
            return False
        limits = Limits()
        if not definition.get("include_history", True):
            limits.since = created or 0
        if "lookback" in definition:
            limits.lookback = hours(definition["lookback"])
        return all(self.holds(definition[part], limits) for part in ("when", "require") if part in definition)

    def _newest(self, kind: str, name: str) -> Any:
        setting = [call for call in self.calls if call.kind == kind and name in call.traits]
        if not setting:
            return None
        return max(setting, key=lambda call: (call.timestamp, call.message_id)).traits[name]

    def trait(self, path: str) -> Any:
        """A path that ends in `.$` gives a list."""
        name, dot, _ = path.partition(".")
        found = self._computed(name) if name in self.oracle.traits else self._newest("identify", name)
        if dot:
            return found if isinstance(found, list) else []
        return found

    def holds(self, condition: dict[str, Any], limits: Limits) -> bool:
        if "all" in condition:
            return all(self.holds(part, limits) for part in condition["all"])
        if "any" in condition:
            return any(self.holds(part, limits) for part in condition["any"])
        if "not" in condition:
            return not self.holds(condition["not"], limits)
        if "audience" in condition:
            return self.member(condition["audience"])
        if "trait" in condition:
            value = self.trait(condition["trait"])
            values = (value or [None]) if condition["trait"].endswith("$") else [value]
            return all(
                any(self._compare(name, value, operand) for value in values)
                for name, operand in condition.items()
                if name != "trait"
            )
        return self._event(condition, limits)

    def _compare(self, operator: str, value: Any, operand: Any, parent: Call | None = None) -> bool:
        if not isinstance(operand, dict):
            return satisfied(operator, value, operand, self.now)
        if "same_as" in operand:
            assert parent is not None
            referred = parent.properties.get(operand["same_as"])
        else:
            referred = self.trait(operand["trait"])
        options = referred if isinstance(referred, list) else [referred]
        takes_lists = operator in ("any_of", "none_of") and "trait" in operand
        if not takes_lists and not str(operand.get("trait")).endswith("$") and isinstance(referred, list):
            options = []
        options = [option for option in options if option is not None]
        if operator in ("any_of", "none_of"):
            return bool(options) and satisfied(operator, value, options, self.now)
        return any(satisfied(operator, value, option, self.now) for option in options)

    def _event(self, condition: dict[str, Any], limits: Limits) -> bool:
        counted = [call for call in self.calls if self._counts(call, condition, limits)]
        if "then" in condition:
            counted = [parent for parent in counted if self._followed(parent, condition["then"], limits)]
        return _enough(condition, len(counted)) and self._aggregate(condition, counted)

    def _followed(self, parent: Call, then: dict[str, Any], limits: Limits) -> bool:
        within = hours(then["within"]) if "within" in then else 2**62
        children = [
            call
            for call in self.calls
            if call.received >= limits.since
            and call.timestamp <= self.horizon
            and parent.timestamp < call.timestamp < parent.timestamp + within
            and self._passes(call, then, parent)
        ]
        return _enough(then, len(children))

    def _counts(self, call: Call, condition: dict[str, Any], limits: Limits) -> bool:
        v = call.timestamp
        if call.received < limits.since or self.now >= v + limits.lookback:
            return False
        if "between" in condition:
            far, near = map(hours, condition["between"])
            # Up to an age of 0 is up to now, which an event may be a little ahead of.
            in_window = (v + near <= self.now if near else v <= self.horizon) and self.now < v + far
        elif "within" in condition:
            in_window = v <= self.horizon and self.now < v + hours(condition["within"])
        else:
            in_window = v <= self.horizon
        return in_window and self._passes(call, condition, None)

    def _passes(self, call: Call, condition: dict[str, Any], parent: Call | None) -> bool:
        if call.kind != "track" or call.event != condition["event"]:
            return False
        if call.source is not None and call.source in condition.get("exclude_sources", []):
            return False
        return all(
            any(self._compare(operator, value, operand, parent) for value in found_at(data, path))
            for key, data in (("where", call.properties), ("context", call.context))
            for path, comparisons in condition.get(key, {}).items()
            for operator, operand in comparisons.items()
        )

    def _aggregate(self, condition: dict[str, Any], counted: list[Call]) -> bool:
        for name in AGGREGATES:
            if name in condition:
                value = _aggregated(
                    name, [call.properties.get(condition[name]["property"]) for call in counted]
                )
                return value is not None and all(
                    self._compare(operator, value, operand)
                    for operator, operand in condition[name].items()
                    if operator != "property"
                )
        return True

    def _computed(self, key: str) -> Any:
        definition = self.oracle.traits[key]
        events = [call for call in self.calls if self._counts(call, definition, Limits())]
        events.sort(key=lambda call: (call.timestamp, call.message_id))
        if "session" in definition:
            events = _latest_run(events, hours(definition["session"]), self.now)
        if "count" in definition:
            return len(events)
        function = next(name for name in definition if name in FUNCTIONS)
        found = [call.properties.get(definition[function]) for call in events]
        found = [value for value in found if value is not None]
        if function in AGGREGATES:
            return _aggregated(function, found)
        return FUNCTIONS[function](found, definition) if found else None


def _most_frequent(found: list[Any], definition: dict[str, Any]) -> Any:
    counts = Counter(map(text, found))
    most = max(counts.values())
    if most < definition.get("at_least", 2):
        return None
    return min(value for value, times in counts.items() if times == most)


FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(AGGREGATES),
    "most_frequent": _most_frequent,
    "first": lambda found, _: found[0],
    "last": lambda found, _: found[-1],
    "unique_list": lambda found, _: sorted(set(map(text, found))),
    "unique_list_count": lambda found, _: len(set(map(text, found))),
}


def _latest_run(events: list[Call], gap: int, now: int) -> list[Call]:
    run: list[Call] = []
    for call in reversed(events):
        if (run[-1].timestamp if run else now) - call.timestamp >= gap:
            break
        run.append(call)
    return run[::-1]


def _enough(condition: dict[str, Any], n: int) -> bool:
    count: dict[str, int] = condition.get("count", {"at_least": 1})
    [(bound, limit)] = count.items()
    return {"at_least": n >= limit, "at_most": n <= limit, "exactly": n == limit}[bound]


def _aggregated(name: str, values: list[Any]) -> float | None:
    numbers = [found for value in values if (found := number(value)) is not None]
    if not numbers:
        return None
    total = {
        "sum": sum(numbers, Fraction()),
        "average": sum(numbers, Fraction()) / len(numbers),
        "min": min(numbers),
        "max": max(numbers),
    }[name]
    return float(round(total, 6)) if name in ("sum", "average") else float(total)


def texts_in(data: Any) -> Iterator[str]:
    """Every text anywhere in a definition."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from texts_in(value)
    elif isinstance(data, list):
        for item in data:
            yield from texts_in(item)


class Oracle:
    """Memberships of every profile in every audience, and their transitions; the clock is moved by the calls.

    `audiences` and `traits` are definitions by key. `applied` is when audiences without history are first applied.
    """

    def __init__(
        self,
        audiences: dict[str, dict[str, Any]],
        traits: dict[str, dict[str, Any]] | None = None,
        early: int = 0,
        applied: int = 0,
    ) -> None:
        self.audiences = audiences
        self.traits = traits or {}
        self.early = early
        self.applied = applied
        self.clock = 0
        self.profiles: dict[str, list[Call]] = {}
        self.remembered: dict[tuple[str, str], int] = {}
        self.members: set[tuple[str, str]] = set()
        self.transitions: list[tuple[int, str, str, bool]] = []
        self._spans = {hours(found) for found in texts_in([audiences, self.traits]) if duration(found)}
        self._instants = {created for key in audiences if (created := self.created(key)) is not None}

    def created(self, key: str) -> int | None:
        definition = self.audiences[key]
        if "created_at" in definition:
            return date(definition["created_at"])
        return None if definition.get("include_history", True) else self.applied

    def apply(self, call: Call) -> None:
        self.move_clock(call.received)
        calls = self.profiles.setdefault(call.profile, [])
        if call.kind == "track":
            remembered = self.remembered.get((call.profile, call.message_id))
            if remembered is not None and self.clock < remembered + DAY:
                return self._look(self.clock)
            self.remembered[call.profile, call.message_id] = whole_second(self.clock)
        calls.append(call)
        self._instants.add(call.timestamp)
        for value in (*call.properties.values(), *call.traits.values()):
            if (found := date(value)) is not None:
                self._instants.add(found)
            if (span := duration(value)) is not None:
                self._spans.add(span)
        return self._look(self.clock)

    def move_clock(self, instant: int) -> None:
        """Looks at every instant that lies a duration that occurs before or after an instant that occurs."""
        edges = {
            known + span - early
            for known in self._instants
            for span in (0, *self._spans, *(-span for span in self._spans))
            for early in (0, self.early)
        }
        for edge in sorted(edges):
            if self.clock < edge <= instant:
                self.clock = edge
                self._look(edge)
        self.clock = max(self.clock, instant)

    def _look(self, now: int) -> None:
        for profile in self.profiles:
            truth = Truth(self, profile, now)
            for audience in self.audiences:
                member = truth.member(audience)
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
