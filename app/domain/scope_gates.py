"""Which of the things that Meta limits as a whole (an ad account, the app, the token) may be called now.

A pure state machine: `now` is monotonic seconds. A scope that was refused stays closed for its wait and is then
tried by one caller alone; only when that one succeeds is it open to all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Seconds after which to ask again while somebody else tries a scope.
PROBE_POLL = 1.0


@dataclass(slots=True)
class _Gate:
    """`strikes`: refusals in a row. `prober`: who tries the scope after its wait."""

    closed_until: float = 0.0
    strikes: int = 0
    prober: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """Ask again after `seconds`; `reason` is why the scope is closed."""

    seconds: float
    reason: str


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
            if now < gate.closed_until:
                waits.append(Closed(gate.closed_until - now, gate.reason or scope))
            elif gate.strikes and gate.prober not in (None, caller):
                waits.append(Closed(PROBE_POLL, gate.reason or scope))
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

    def strikes(self, scope: str) -> int:
        gate = self._gates.get(scope)
        return gate.strikes if gate else 0

    def refused(self, scope: str, until: float, reason: str) -> None:
        """The scope's limit was hit: closed until then, and then tried by one."""
        gate = self._gates.setdefault(scope, _Gate())
        gate.closed_until = max(gate.closed_until, until)
        gate.strikes += 1
        gate.prober = None
        gate.reason = reason

    def rest(self, scope: str, until: float, reason: str) -> None:
        """The scope is near its limit: nobody calls before then."""
        gate = self._gates.setdefault(scope, _Gate())
        if until > gate.closed_until:
            gate.closed_until = until
            gate.reason = reason
