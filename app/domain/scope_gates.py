"""Which of the things that Meta limits as a whole (an ad account, the app, the token) may be called now.

A pure state machine: `now` is monotonic seconds. A scope that was refused stays closed for its wait and is then
tried by one caller alone; only when that one succeeds is it open to all. It is a circuit breaker, too: `failed` says
when calls that get no answer are so many that the scope is to be closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Seconds after which to ask again while somebody else tries a scope.
PROBE_POLL = 1.0
# Seconds by which whoever has tried a scope and failed lets others go first: what stands in the way of one need not
# stand in the way of all.
PROBE_TURN = 5.0


@dataclass(slots=True)
class _Gate:
    """`strikes`: refusals in a row. `prober`: who tries the scope after its wait; `tried`: who has, and failed.

    `failures`: calls in a row without an answer; `failed_by`: whose.
    """

    closed_until: float = 0.0
    strikes: int = 0
    prober: str | None = None
    reason: str | None = None
    tried: set[str] = field(default_factory=set)
    failures: int = 0
    failed_by: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Closed:
    """Ask again after `seconds`; `reason` is why the scope is closed. `refused`: it was, and does not only rest."""

    seconds: float
    reason: str
    refused: bool = field(default=False, compare=False)


class ScopeGates:
    """Shared by all destinations of a worker; scopes and callers are any strings."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    def closed(self, scopes: Iterable[str], caller: str, now: float) -> Closed | None:
        """The longest wait among the scopes; None: the caller may call now."""
        waits = []
        for scope in scopes:
            gate = self._gates.get(scope)
            if gate is None:
                continue
            until = gate.closed_until + (PROBE_TURN if caller in gate.tried else 0.0)
            if now < until:
                waits.append(Closed(until - now, gate.reason or scope, gate.strikes > 0))
            elif gate.strikes and gate.prober not in (None, caller):
                waits.append(Closed(PROBE_POLL, gate.reason or scope, refused=True))
        return max(waits, key=lambda closed: closed.seconds, default=None)

    def enter(self, scopes: Iterable[str], caller: str) -> None:
        """The caller calls now: of scopes that were refused it becomes the one who tries them."""
        for scope in scopes:
            gate = self._gates.get(scope)
            if gate is not None and gate.strikes and gate.prober is None:
                gate.prober = caller

    def leave(self, caller: str) -> None:
        """The caller's call is over, whatever came of it: somebody else may try."""
        for gate in self._gates.values():
            if gate.prober == caller:
                gate.prober = None

    def succeeded(self, scopes: Iterable[str]) -> None:
        """A call was answered: these scopes are open, but for a rest asked for by `rest`."""
        for scope in scopes:
            gate = self._gates.get(scope)
            if gate is not None:
                gate.strikes = 0
                gate.prober = None
                gate.failures = 0
                gate.tried.clear()
                gate.failed_by.clear()

    def failed(self, scope: str, caller: str, most: int) -> bool:
        """A call got no answer, or one that says to come again; whether the scope is now to be closed by `refused`.

        It is behind `most` of them in a row, when they were not all of one caller, who is then what is wrong; and
        whenever one that tries it fails.
        """
        gate = self._gates.setdefault(scope, _Gate())
        gate.failures += 1
        gate.failed_by.add(caller)
        return gate.strikes > 0 or (gate.failures >= most and len(gate.failed_by) > 1)

    def strikes(self, scope: str) -> int:
        gate = self._gates.get(scope)
        return gate.strikes if gate else 0

    def refused(self, scope: str, until: float, reason: str, caller: str | None = None) -> None:
        """The scope's limit was hit: closed until then, and then tried by one; not by `caller` first."""
        gate = self._gates.setdefault(scope, _Gate())
        gate.closed_until = max(gate.closed_until, until)
        gate.strikes += 1
        gate.prober = None
        gate.reason = reason
        if caller is not None:
            gate.tried.add(caller)

    def rest(self, scope: str, until: float, reason: str) -> None:
        """The scope is near its limit: nobody calls before then."""
        gate = self._gates.setdefault(scope, _Gate())
        if until > gate.closed_until:
            gate.closed_until = until
            gate.reason = reason
