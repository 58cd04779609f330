"""What a chaos run does to the Graph API: every class of refusal, and answers that get lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

# The account of the run, without `act_`.
ACCOUNT = "1"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a request for people gets, and which requests: all, if nothing is said."""

    respond: dict[str, Any]
    matchers: dict[str, Any] = field(default_factory=dict)


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


# Those that pass by themselves; what is refused for good is `REFUSED`.
FAULTS: dict[str, Fault] = {
    "retry, unknown error": Fault(_error(1, None, 500)),
    "retry, service": Fault(_error(2, None, 503, is_transient=True)),
    "retry, no JSON": Fault({"status": 502, "body": "<html>bad gateway</html>"}),
    "throttled": Fault(_throttled()),
    "token expired": Fault(_error(190, 463, 401)),
    "terms not accepted": Fault(_error(200, 1_870_034)),
    "slow": Fault({"delay_ms": 1_500}),
    "no answer in time": Fault({"delay_ms": 6_000}),
    "cut off before the write": Fault({"drop": "before"}),
    "cut off after the write": Fault({"drop": "after"}),
    "too few would be left": Fault(_error(200, 1_870_047), {"method": "DELETE"}),
    "audience gone": Fault(_error(100, 33)),
}


def draw_fault(chance: random.Random) -> tuple[str, Fault, int]:
    """Its name, and how many requests it meets."""
    name = chance.choice(sorted(FAULTS))
    return name, FAULTS[name], chance.randint(1, 3)


# As long as they stand, these rows are refused: those of two people with the whole request they are in, again and
# again until they are alone, that of another by itself, beside rows that are taken.
REFUSED: dict[str, dict[str, Any]] = {
    "user_3": _error(100, 1_713_098),
    "user_77": _error(100, 1_713_098),
    "user_150": {"invalid": "a row that chaos does not like"},
}
