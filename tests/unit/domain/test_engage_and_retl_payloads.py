"""Whole payloads of Engage and Reverse ETL, from the bytes to the rows that are sent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.counters import Counters
from app.domain.instants import parse_instant
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from schemas.dead_letter import DropReason, Reason
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import FAR_WALL, START, plan_of

PAYLOADS = json.loads((Path(__file__).parent / "engage_and_retl_payloads.json").read_text("utf-8"))
BOUGHT, STEP = "order_completed_last_30_days", "spring_promo__ads_8943l"
PLAN = plan_of(
    {"key": BOUGHT, "source": "engage", "facebook": {"audience_id": "120210000000000001"}},
    {"key": STEP, "source": "engage"},
    {"key": "leads", "source": "reverse_etl", "rows": {"where": {"$.__segment_id": {"exists": True}}}},
    # Nobody enters by what is no event.
    {"key": "events", "when": {"any": [{"event": name} for name in ("Audience Entered", "Spring Promo Ads", "new")]}},
    {"key": "spenders", "when": {"trait": "total_revenue_180_days", "at_least": 400}},
)  # fmt: skip


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Run:
    """Payloads one after the other, through a resolver and a partition."""

    def __init__(self, **options: Any) -> None:
        self.resolver = Resolver(PLAN, ResolveOptions(**options))
        self.partition = AudiencePartition(PLAN, 0, Counters())
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "lane", 0, 0, START, START, progress={"lane": START})
        )
        self.offset = 0
        self.dropped: DropReason | None = None
        self.refused: Reason | None = None

    def take(self, name: str) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
        self.offset += 1
        raw = json.dumps(PAYLOADS[name]).encode()
        resolution = self.resolver.resolve(raw, START, FAR_WALL, "lane", self.offset)
        self.dropped = resolution.dropped
        self.refused = None if resolution.refused is None else resolution.refused.reason
        for profile, event in resolution.records:
            self.partition.apply(profile, event)
        return [
            (delta.audience, delta.profile, delta.change.value, delta.rows[delta.audience])
            for delta in self.partition.drain().deltas
        ]


JANE = {"EXTERN_ID": "u_10482", "EMAIL": sha("jane.roe@example.com")}
JANE_ENRICHED = {
    **JANE,
    "PHONE": sha("33612345678"),
    "LN": sha("roe"),
    "FN": sha("jane"),
    "CT": sha("lyon"),
    "ZIP": sha("69002"),
    "COUNTRY": sha("fr"),
}
SAM = {
    "EXTERN_ID": "crm_778",
    "EMAIL": sha("sam@example.org"),
    "PHONE": sha("14155550100"),
    "LN": sha("poe"),
    "FN": sha("sam"),
    "ZIP": sha("94107"),
    "COUNTRY": sha("us"),
}

OUTCOMES = {
    "engage_identify_enter": [(BOUGHT, "u_10482", "entered", [JANE])],
    # Facebook's audience was there before: she may be in it.
    "engage_identify_exit": [(BOUGHT, "u_10482", "exited", [JANE])],
    "engage_track_enter": [(BOUGHT, "u_10482", "entered", [JANE])],
    "engage_track_exit": [(BOUGHT, "u_10482", "exited", [JANE])],
    "engage_track_enter_enriched": [(BOUGHT, "u_10482", "entered", [JANE_ENRICHED])],
    "journey_v2_step_enter": [(STEP, "u_10482", "entered", [JANE])],
    "journey_step_legacy_no_boolean": [],
    "computed_trait_identify": [("spenders", "u_10482", "entered", [{"EXTERN_ID": "u_10482"}])],
    "retl_new": [("leads", "crm_778", "entered", [SAM])],
    "retl_updated": [("leads", "crm_778", "entered", [SAM])],
    "retl_deleted": [],
}


def test_every_payload_has_an_outcome() -> None:
    assert PAYLOADS.keys() - {"_source"} == OUTCOMES.keys()


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_payload_alone(name: str) -> None:
    run = Run()
    assert run.take(name) == OUTCOMES[name]
    assert run.dropped is None
    legacy = name == "journey_step_legacy_no_boolean"
    assert run.refused is (Reason.INVALID_AUDIENCE_MEMBERSHIP if legacy else None)


def test_a_legacy_step_where_such_steps_enter() -> None:
    assert Run(legacy_journeys=True).take("journey_step_legacy_no_boolean") == [
        (STEP, "u_10482", "entered", [JANE])
    ]


@pytest.mark.parametrize("kind", ["identify", "track"])
def test_in_and_out_again(kind: str) -> None:
    run = Run()
    entered, left = run.take(f"engage_{kind}_enter"), run.take(f"engage_{kind}_exit")
    assert [delta[2:] for delta in entered + left] == [("entered", [JANE]), ("exited", [JANE])]
    assert run.take(f"engage_{kind}_enter") == [], "an older call changes nothing"


def test_identify_and_track_of_one_change_are_one_entry_and_what_is_new_is_sent_again() -> None:
    run = Run()
    run.take("engage_identify_enter")
    assert run.take("engage_track_enter") == []
    ((audience, _, change, rows),) = run.take("engage_track_enter_enriched")
    assert (audience, change, rows) == (BOUGHT, "updated", [JANE_ENRICHED])


def test_a_warehouses_rows_in_their_order() -> None:
    run = Run()
    assert run.take("retl_new") == [("leads", "crm_778", "entered", [SAM])]
    assert run.take("retl_updated") == []
    # Its columns are null: the exit has what the entry had. All three payloads have one timestamp.
    assert run.take("retl_deleted") == [("leads", "crm_778", "exited", [SAM])]


def test_simulate_gives_the_same_transitions() -> None:
    lines = [json.dumps(PAYLOADS[name]).encode() for name in ("engage_track_enter", "engage_identify_exit")]
    found = list(simulate(PLAN, lines))
    received = [parse_instant(json.loads(line)["receivedAt"]) for line in lines]
    assert found == [
        Transition(received[0] or 0, BOUGHT, "u_10482", member=True),
        Transition(received[1] or 0, BOUGHT, "u_10482", member=False),
    ]
