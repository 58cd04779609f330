"""What a chaos run does to the Graph API: every class of refusal that passes, and answers that get lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

# The account of the run, without `act_`.
ACCOUNT = "1"


def _error(code: int, subcode: int | None, status: int = 400, **more: Any) -> dict[str, Any]:
    error: dict[str, Any] = {
        "message": f"(#{code}) chaos",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "A",
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"status": status, "body": {"error": {**error, **more}}}


def _throttled() -> dict[str, Any]:
    meter = {
        "type": "custom_audience",
        "call_count": 100,
        "total_cputime": 20,
        "total_time": 20,
        "estimated_time_to_regain_access": 0,
    }
    return {
        **_error(613, 5_044_001),
        "headers": {"X-Business-Use-Case-Usage": json.dumps({ACCOUNT: [meter]})},
    }


FAULTS: dict[str, dict[str, Any]] = {
    "retry, unknown error": _error(1, None, 500),
    "retry, service": {**_error(2, None, 503, is_transient=True)},
    "retry, no JSON": {"status": 502, "body": "<html>bad gateway</html>"},
    "throttled": _throttled(),
    "token expired": _error(190, 463, 401),
    "terms not accepted": _error(200, 1_870_034),
    "slow": {"delay_ms": 1_500},
    "no answer in time": {"delay_ms": 6_000},
    "cut off before the write": {"drop": "before"},
    "cut off after the write": {"drop": "after"},
}


def draw_fault(chance: random.Random) -> tuple[str, dict[str, Any], int]:
    """Its name, what to respond, and how many times."""
    name = chance.choice(sorted(FAULTS))
    return name, FAULTS[name], chance.randint(1, 3)


# The request that holds such a row is refused for what is in it, again and again.
POISON = _error(100, 1_713_098)
