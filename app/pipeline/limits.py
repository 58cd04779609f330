"""One destination's view of the limits that Meta sets for an ad account, an app or a token as a whole, and of the
circuit breaker of its ad account.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.delivery import Decision, Refusal, UsageMeter, back_off, pace, throttle_wait, usage_of
from app.domain.delivery_errors import BACK_OFF, Scope
from app.domain.scope_gates import Closed
from app.pipeline.delivery_options import Shared


class Limits:
    """`account` None: the ad account is not known, and its limits are taken for the destination's own."""

    def __init__(self, shared: Shared, destination: str, account: str | None) -> None:
        self._shared = shared
        self._gates = shared.gates
        self._caller = destination
        self._account = account
        self._account_key = account or f"the ad account of {destination}"
        self._circuit = f"calls of {self._account_key}"
        self._keys = (self._account_key, Scope.APP.value, Scope.TOKEN.value, self._circuit)

    @property
    def account_key(self) -> str:
        return self._account_key

    def closed(self) -> Closed | None:
        """None: this destination may call now."""
        return self._gates.closed(self._keys, self._caller, self._shared.clock.monotonic())

    def enter(self) -> None:
        self._gates.enter(self._keys, self._caller)

    def leave(self) -> None:
        self._gates.leave(self._caller)

    def heed(self, usage: Sequence[UsageMeter]) -> None:
        """A call was let through: the scopes are open, but rest when a limit is near."""
        self._gates.succeeded(self._keys)
        meters = usage_of(usage, self._account or "")
        for scope in (Scope.AD_ACCOUNT, Scope.APP):
            seconds = pace(meters, scope)
            if seconds > 0:
                key = self._key(scope)
                until = self._shared.clock.monotonic() + seconds
                self._gates.rest(key, until, f"{key} is near its limit of calls")

    def throttled(self, refusal: Refusal, decision: Decision, why: str) -> float:
        """Close the refused scope for everybody; returns for how many seconds."""
        key = self._key(decision.scope)
        usage = usage_of(refusal.usage, self._account or "")
        seconds = throttle_wait(decision, usage, self._gates.strikes(key), self._shared.draw())
        self._gates.refused(key, self._shared.clock.monotonic() + seconds, why)
        return seconds

    def failed(self, why: str) -> None:
        """A call of the destination got no answer, or one that says to come again."""
        options = self._shared.options
        if self._gates.failed(self._circuit, self._caller, options.tries):
            # Many destinations fail at once when there is no answer for a second: the wait grows as one's own does.
            strikes, seconds = self._gates.strikes(self._circuit), options.outage_probe_seconds
            if strikes < options.tries - 1:
                seconds = min(seconds, back_off(BACK_OFF, strikes + 1, self._shared.draw()))
            self.account_in_trouble(why, seconds)

    def account_in_trouble(self, why: str, seconds: float) -> None:
        """Nobody calls for the ad account until then, and then one tries."""
        text = f"{self._account_key} has trouble: {why}"
        until = self._shared.clock.monotonic() + seconds
        self._gates.refused(self._circuit, until, text, self._caller)

    def _key(self, scope: Scope) -> str:
        return self._account_key if scope is Scope.AD_ACCOUNT else scope.value
