"""Plans and calls for the tests of the engine, from definitions in the language of audiences.yaml."""

from __future__ import annotations

import json
from typing import Any

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from app.domain.plan import Plan

START = 1_740_787_200_000  # 2025-03-01T00:00:00Z
HOUR = 3_600_000
DAY = 24 * HOUR
FAR_WALL = 2**50

FACEBOOK = {"ad_account_id": "act_1"}


def plan_of(*audiences: dict[str, Any], traits: dict[str, Any] | None = None) -> Plan:
    """Each audience is named audience_0 ... unless it has a name; `traits` are computed ones by key."""
    listed = [{"name": f"audience_{number}", **audience} for number, audience in enumerate(audiences)]
    text = json.dumps({"audiences": listed, "traits": traits or {}})
    definitions = parse_definitions([Document("audiences.yaml", text)])
    return compile_audiences(definitions.audiences, definitions.traits)


def call(**fields: Any) -> bytes:
    """A track call of user_1 with what a call needs; a field given as None is null, `...` leaves it out."""
    base = {
        "type": "track",
        "event": "Order Completed",
        "userId": "user_1",
        "messageId": "m1",
        "timestamp": "2025-03-01T00:00:00.000Z",
        "receivedAt": "2025-03-01T00:00:01.000Z",
    }
    body = {name: value for name, value in {**base, **fields}.items() if value is not ...}
    return json.dumps(body).encode()
