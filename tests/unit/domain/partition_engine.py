"""A partition that is driven record by record, and can be restarted."""

from typing import Any

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from schemas.membership import MembershipDelta
from schemas.profile import CALL, MARKER, VERSION, FeedHit, ProfileEvent
from tests.unit.domain.plans import FACEBOOK, FAR_WALL, START, plan_of

LANE = "source-0"
EARLY = 5_000
ORDERED = {"when": {"event": "Order Completed", "within": "30d"}, "facebook": FACEBOOK}


class Engine:
    """A partition, and short words for what comes to it."""

    def __init__(
        self,
        *audiences: dict[str, Any],
        early: int = 0,
        lanes: tuple[str, ...] = (LANE,),
        started: bool = True,
        traits: dict[str, Any] | None = None,
    ) -> None:
        self.plan = plan_of(*(audiences or (ORDERED,)), traits=traits)
        self.early = early
        self.lanes = lanes
        self.counters = Counters()
        self.offset = 0
        self.applied_at = 0
        self.log: dict[bytes, bytes] = {}
        self.partition = self._new()
        if started:
            self.marker(START)

    def _new(self) -> AudiencePartition:
        made = AudiencePartition(self.plan, self.early, self.counters, self.applied_at)
        for key, value in self.log.items():
            made.load(key, value)
        made.finish_recovery()
        made.set_wall(FAR_WALL)
        made.set_expected(self.lanes)
        return made

    def restart(self, *audiences: dict[str, Any], traits: dict[str, Any] | None = None) -> None:
        """From the log alone, perhaps by other definitions."""
        if audiences:
            self.plan = plan_of(*audiences, traits=traits)
        self.counters = Counters()
        self.partition = self._new()

    def marker(self, instant: int, lane: str = LANE) -> None:
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, lane, 0, 0, instant, instant, progress={lane: instant})
        )

    def call(self, received: int, profile: str = "user_1", **fields: Any) -> None:
        self.offset += 1
        fields.setdefault("timestamp", received)
        fields.setdefault("lane", LANE)
        event = ProfileEvent(
            version=VERSION, kind=CALL, offset=self.offset, index=0, received=received, **fields
        )
        self.partition.apply(profile, event)

    def order(self, received: int, profile: str = "user_1", **fields: Any) -> None:
        feeds = [FeedHit(feed.id, [1] * len(feed.kept)) for feed in self.plan.events["Order Completed"].feeds]
        fields.setdefault("message_id", f"m{self.offset}")
        self.call(received, profile, hits=feeds, **fields)

    def deltas(self) -> list[MembershipDelta]:
        outcome = self.partition.drain()
        self.log.update(outcome.states)
        return outcome.deltas


def short(deltas: list[MembershipDelta]) -> list[tuple[str, str, int]]:
    return [(delta.profile, delta.change.value, delta.at) for delta in deltas]


def identify(engine: Engine, received: int, profile: str = "user_1", **identifiers: Any) -> None:
    engine.call(received, profile, identifiers=identifiers)


def rows(delta: MembershipDelta) -> list[dict[str, Any]]:
    return delta.rows["audience_0"]
