"""What keeps one destination from being delivered to: how long it stays away from Facebook, and what people are told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.delivery import Decision, Refusal, UsageMeter, back_off, classify, reason, words
from app.domain.delivery_errors import BACK_OFF, Reaction, Scope, Wait
from app.pipeline.delivery_options import Shared
from app.pipeline.limits import Limits
from schemas.sync import DestinationState

log = logging.getLogger(__name__)

# Longer waits than this are not waited out with the same batch: it is given back and keeps filling, in seconds.
_LONG_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """The same again after so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent for so long; then the next thing due is the probe."""

    state: DestinationState
    why: str
    seconds: float


class Trouble:
    """One destination. `account` None: the ad account is not known."""

    def __init__(self, shared: Shared, destination: str, account: str | None, limits: Limits) -> None:
        self._shared = shared
        self._options = shared.options
        self._destination = destination
        self._account = account
        self._limits = limits
        self._failures = 0
        self._failed_why: str | None = None
        # State and reason while something stands in the way.
        self.shown: tuple[DestinationState, str] | None = None

    @property
    def attempts(self) -> int:
        """Tries of what is under way, the present one included."""
        return self._failures + 1

    @property
    def failed_why(self) -> str | None:
        """Why the last try failed, for whoever looks before it is called a hold."""
        return self._failed_why if self._failures else None

    def answered(self, usage: Sequence[UsageMeter]) -> None:
        """A call succeeded: nothing is wrong any longer, but a limit may be near."""
        if self.shown is not None:
            log.info("destination %s is delivered to again", self._destination)
        self.clear()
        self._limits.heed(usage)

    def clear(self) -> None:
        """Nothing is wrong any longer."""
        self.shown = None
        self._failures = 0

    def count(self, refusal: Refusal) -> None:
        """Refusals that nobody has described are counted, as what is done about them is a guess."""
        if classify(refusal).known:
            return
        code = "none" if refusal.code is None else f"{refusal.code}/{refusal.subcode or 0}"
        if self._shared.counters.count_unknown_error(code):
            log.warning("destination %s: an error that is not known: %s", self._destination, words(refusal))

    def refused(self, refusal: Refusal) -> Retry | Hold:
        self.count(refusal)
        decision = classify(refusal)
        why = reason(refusal, decision, self._account)
        match decision.reaction:
            case Reaction.THROTTLE:
                return Hold(DestinationState.HELD, why, self._limits.throttled(refusal, decision, why))
            case Reaction.RETRY:
                return self._comes_again(decision, why)
            case Reaction.AUDIENCE_GONE:
                return Hold(DestinationState.GONE, why, self._options.gone_probe_seconds)
            case _:
                return self.needs_person(why)

    def _comes_again(self, decision: Decision, why: str) -> Retry | Hold:
        how = self._wait(why, decision.wait or BACK_OFF)
        if decision.scope is Scope.AD_ACCOUNT:
            self._limits.account_in_trouble(why, how.seconds)
        elif decision.scope is not Scope.AUDIENCE:
            self._limits.failed(why)
        return how

    def failed(self, why: str) -> Retry | Hold:
        """There was no answer: the same again after a while; after some tries at longer intervals, shown as held."""
        how = self._wait(why, BACK_OFF)
        self._limits.failed(why)
        return how

    def _wait(self, why: str, wait: Wait) -> Retry | Hold:
        self._failures += 1
        self._failed_why = why
        seconds = back_off(wait, self._failures, self._shared.draw())
        if self._failures >= self._options.tries:
            seconds = max(seconds, self._options.outage_probe_seconds)
        if self._failures >= self._options.tries or seconds > _LONG_WAIT:
            return Hold(DestinationState.HELD, why, seconds)
        return Retry(seconds)

    def needs_person(self, why: str) -> Hold:
        return Hold(DestinationState.HELD, why, self._options.person_probe_seconds)

    def show(self, hold: Hold) -> bool:
        """People see it from now on; False: they did before."""
        if self.shown == (hold.state, hold.why):
            return False
        log.warning("destination %s is %s: %s", self._destination, hold.state.value, hold.why)
        self.shown = (hold.state, hold.why)
        return True
