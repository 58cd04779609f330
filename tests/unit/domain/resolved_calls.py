"""Calls resolved by a few audiences."""

from typing import Any

from app.domain.resolution import Resolution, ResolveOptions, Resolver
from schemas.profile import ProfileEvent
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of

ORDERED = {"when": {"event": "Order Completed"}}
NEVER_ORDERED = {"when": {"event": "Order Completed", "count": {"exactly": 0}}}
ENGAGED = {"key": "vips", "source": "engage"}
RECORD_TIME = START + 60_000


def resolver(*audiences: dict[str, Any], **options: Any) -> Resolver:
    return Resolver(plan_of(*(audiences or (ORDERED,))), ResolveOptions(**options))


def resolve(raw: bytes | None, *audiences: dict[str, Any], wall: int = FAR_WALL) -> Resolution:
    return resolver(*audiences).resolve(raw, RECORD_TIME, wall, "lane", 7)


def only_record(resolution: Resolution) -> tuple[str, ProfileEvent]:
    assert resolution.refused is None
    assert len(resolution.records) == 1
    return resolution.records[0]


DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"


def engage(kind: str = "identify", claim: Any = True, **fields: Any) -> bytes:
    personas = {"computation_class": "audience", "computation_key": "vips"} | fields.pop("personas", {})
    place = "traits" if kind == "identify" else "properties"
    body: dict[str, Any] = {"type": kind, place: {"vips": claim} if claim is not ... else {}}
    body["context"] = {"personas": personas} | fields.pop("context", {})
    return call(**{**body, **fields})
