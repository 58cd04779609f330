"""The usage headers of an answer: how much of its allowance an ad account has used, in percent.

What the app as a whole has used is low and constant: that one account's calls never show on another. The account's own
figures come from `app.sandbox.metering`.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Usage:
    """All in percent but the two waits: minutes until access is regained, seconds until the account's reset."""

    call_count: int = 1
    total_cputime: int = 1
    total_time: int = 1
    minutes_to_regain_access: int = 0
    account_percent: float = 1.0
    reset_seconds: int = 0
    tier: str = "standard_access"


def usage_headers(usage: Usage, ad_account_id: str, *, is_upload: bool) -> dict[str, str]:
    """Uploads of people name the app's and the account's use, every other call the business use case's."""
    times = {"total_cputime": usage.total_cputime, "total_time": usage.total_time}
    if is_upload:
        account = {
            "acc_id_util_pct": usage.account_percent,
            "reset_time_duration": usage.reset_seconds,
            "ads_api_access_tier": usage.tier,
        }
        return {
            "X-App-Usage": orjson.dumps({"call_count": 1, **times}).decode(),
            "X-Ad-Account-Usage": orjson.dumps(account).decode(),
        }
    use_case = {
        "type": "custom_audience",
        "call_count": usage.call_count,
        **times,
        "estimated_time_to_regain_access": usage.minutes_to_regain_access,
    }
    number = ad_account_id.removeprefix("act_")
    return {"X-Business-Use-Case-Usage": orjson.dumps({number: [use_case]}).decode()}
