"""An oracle for who is who: it keeps every call ever made with the people that they made, and asks the truth of all of
them at every instant at which anything could change. Slow on purpose, and it shares no code with the application; what
holds of the calls of one person is tests.unit.domain.brute_force's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.unit.domain.brute_force import Call, Oracle, Truth, texts_in, whole_second
from tests.unit.domain.brute_force_values import DAY, date, duration, hours

LIMITS = {"user": 1, "email": 5, "anon": 5, "madid": 5}
# By priority: what a call names is looked up in this order.
KINDS = ("user", "email", "anon", "madid")

# Its kind, and the value.
Identifier = tuple[str, str]


@dataclass
class NamedCall:
    """A call and whom it names; `call.profile` means nothing here."""

    call: Call
    names: list[Identifier]

    @property
    def in_order(self) -> list[Identifier]:
        return [name for kind in KINDS for name in self.names if name[0] == kind]


@dataclass(eq=False)
class Person:
    """Everything known of one person; `since`: when each identifier was first named."""

    since: dict[Identifier, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    remembered: dict[str, int] = field(default_factory=dict)
    audiences: set[str] = field(default_factory=set)
    # Kinds of all that its calls have named, also of what was not linked for lack of room: a value that is sent.
    kinds: set[str] = field(default_factory=set)
    # The audiences that it, or anybody who has become part of it, was in before the instant.
    before: set[str] = field(default_factory=set)

    def name(self, digest: Callable[[str], str]) -> str:
        for kind, value in self.since:
            if kind == "user":
                return value
        for kind, form in (("email", lambda value: f"email:{digest(value)}"), ("anon", str)):
            named = [(since, form(value)) for (one, value), since in self.since.items() if one == kind]
            if named:
                return min(named)[1]
        return min((since, f"madid:{value}") for (_, value), since in self.since.items())[1]

    @property
    def identified(self) -> bool:
        return bool(self.kinds - {"anon"})


def too_many(identifiers: set[Identifier]) -> bool:
    return any(sum(kind == one for one, _ in identifiers) > limit for kind, limit in LIMITS.items())


class IdentityOracle:
    """People, their memberships, and the transitions; `digest` makes of an e-mail what stands in a name."""

    def __init__(
        self,
        audiences: dict[str, dict[str, Any]],
        traits: dict[str, dict[str, Any]],
        digest: Callable[[str], str],
    ) -> None:
        self.audiences = audiences
        self.digest = digest
        self._conditions = Oracle(audiences, traits)
        self._spans = {hours(found) for found in texts_in([audiences, traits]) if duration(found)}
        self._instants = {created for key in audiences if (created := self._conditions.created(key))}
        self.clock = 0
        self.people: list[Person] = []
        self.transitions: list[tuple[int, str, str, bool]] = []

    def apply(self, named: NamedCall) -> None:
        self.move_clock(named.call.received)
        person = self._resolve(named.in_order)
        person.kinds |= {kind for kind, _ in named.names}
        call = named.call
        self._instants.add(call.timestamp)
        for value in (*call.properties.values(), *call.traits.values()):
            if (found := date(value)) is not None:
                self._instants.add(found)
            if (span := duration(value)) is not None:
                self._spans.add(span)
        if call.kind == "track":
            remembered = person.remembered.get(call.message_id)
            again = remembered is not None and self.clock < remembered + DAY
            if not again:
                person.remembered[call.message_id] = whole_second(self.clock)
                person.calls.append(call)
        else:
            person.calls.append(call)

    def _resolve(self, names: list[Identifier]) -> Person:
        """The longest row of names, by priority, that one person may have."""
        while True:
            found = [person for person in self.people if set(names) & person.since.keys()]
            together = set(names).union(*(person.since for person in found))
            if not too_many(together):
                break
            names = names[:-1]
        person = found[0] if found else Person()
        if not found:
            self.people.append(person)
        for other in found[1:]:
            self._merge(person, other)
        for name in names:
            person.since.setdefault(name, self.clock)
        return person

    def _merge(self, person: Person, other: Person) -> None:
        self.people.remove(other)
        for name, since in other.since.items():
            person.since[name] = min(since, person.since.get(name, since))
        person.calls += other.calls
        person.kinds |= other.kinds
        person.audiences |= other.audiences
        person.before |= other.before
        for message, at in other.remembered.items():
            person.remembered[message] = max(at, person.remembered.get(message, at))

    def move_clock(self, instant: int) -> None:
        """Everything of the instant at which the clock stands has been applied."""
        if instant <= self.clock:
            return
        self._look()
        edges = {
            known + span
            for known in self._instants
            for span in (0, *self._spans, *(-span for span in self._spans))
        }
        for edge in sorted(edges):
            if self.clock < edge < instant:
                self.clock = edge
                self._look()
        self.clock = instant

    def finish(self) -> None:
        """Nothing more comes."""
        self._look()

    def _look(self) -> None:
        for person in self.people:
            truth = self._truth(person)
            person.audiences = {key for key in self.audiences if truth.member(key)}
            for key in person.audiences ^ person.before:
                transition = (self.clock, key, person.name(self.digest), key in person.audiences)
                self.transitions.append(transition)
            person.before = set(person.audiences)

    def _truth(self, person: Person) -> Truth:
        """By the rules for one profile; its name says whether it is an anonymous one."""
        profile = "known" if person.identified else "anonymous"
        self._conditions.profiles[profile] = person.calls
        return Truth(self._conditions, profile, self.clock)
