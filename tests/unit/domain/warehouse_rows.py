"""Rows of a warehouse, and audiences that take them."""

from __future__ import annotations

import json
from typing import Any

from app.domain.definitions import Document, parse_definitions
from app.domain.resolution import Resolution, ResolveOptions, Resolver
from app.errors import InvalidInputError
from schemas.audience import AudienceDefinition
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of

SOURCE = "src_9"
FROM_SOURCE = {"where": {"$.context.protocols.sourceId": SOURCE}}


def warehouse(mode: str = "mirror", **keys: Any) -> dict[str, Any]:
    facebook = {"ad_account_id": "act_1", "sync_mode": mode}
    return {
        "key": "leads",
        "source": "reverse_etl",
        "rows": FROM_SOURCE,
        "facebook": facebook,
    } | keys


def row(event: str = "new", **fields: Any) -> bytes:
    context = {"protocols": {"sourceId": SOURCE}} | fields.pop("context", {})
    return call(event=event, context=context, **fields)


def resolve(raw: bytes, *audiences: dict[str, Any]) -> Resolution:
    plan = plan_of(*(audiences or (warehouse(),)))
    return Resolver(plan, ResolveOptions()).resolve(raw, START, FAR_WALL, "lane", 3)


def claims(resolution: Resolution) -> list[tuple[str, dict[str, bool] | None]]:
    assert resolution.refused is None
    return [(profile, event.claims) for profile, event in resolution.records]


def accounts(*modes: str) -> list[dict[str, str]]:
    return [{"ad_account_id": f"act_{number}", "sync_mode": mode} for number, mode in enumerate(modes)]


def problems(audience: dict[str, Any]) -> list[str]:
    text = json.dumps({"audiences": [{"name": "A", **audience}]})
    try:
        parse_definitions([Document("a.yaml", text)])
    except InvalidInputError as error:
        return str(error).splitlines()
    return []


def read(audience: dict[str, Any]) -> AudienceDefinition:
    text = json.dumps({"audiences": [{"name": "A", **audience}]})
    (definition,) = parse_definitions([Document("a.yaml", text)]).audiences
    return definition
