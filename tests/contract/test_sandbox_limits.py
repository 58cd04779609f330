"""Limits of calls by ad account, versions that have ended, and proofs of the app's secret."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from app.sandbox.metering import LimitOptions
from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.sandbox_client import FIXED, LIST, TOKEN, Answer, SandboxClient, running

MINUTE = 60


def limited(**limits: Any) -> SandboxOptions:
    return SandboxOptions(now=lambda: FIXED, limits=LimitOptions(**limits))


def use_case(answer: Answer, account: str = "1") -> Any:
    (found,) = orjson.loads(answer.headers["X-Business-Use-Case-Usage"])[account]
    return found


async def upload(client: SandboxClient, audience: str) -> Any:
    answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
    return orjson.loads(answer.headers["X-Ad-Account-Usage"])


# --- calls of an hour ---


async def test_usage_rises_with_calls_and_falls_within_the_hour() -> None:
    async with running(limited(calls_per_hour=10)) as client:
        percents = [use_case(await client.call("GET", LIST))["call_count"] for _ in range(5)]
        assert percents == [10, 20, 30, 40, 50]
        audience = await client.create()  # the sixth call
        assert (await upload(client, audience))["acc_id_util_pct"] == 70
        await client.advance(60 * MINUTE)
        assert (await upload(client, audience))["acc_id_util_pct"] == 10
        assert use_case(await client.call("GET", LIST))["call_count"] == 20


async def test_one_account_s_calls_never_show_on_another() -> None:
    async with running(limited(calls_per_hour=10)) as client:
        audience = await client.create(account="act_2")
        for _ in range(12):
            await client.call("GET", LIST)
        other = await client.call("GET", "act_2/customaudiences")
        assert (other.status, use_case(other, "2")["call_count"]) == (200, 20)
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert orjson.loads(answer.headers["X-App-Usage"])["call_count"] == 1
        assert orjson.loads(answer.headers["X-Ad-Account-Usage"])["acc_id_util_pct"] == 30


async def test_over_the_limit_a_call_is_refused_and_says_when_to_come_again() -> None:
    async with running(limited(calls_per_hour=3)) as client:
        audience = await client.create()
        await client.advance(10 * MINUTE)
        assert [(await client.call("GET", audience)).status for _ in range(2)] == [200, 200]
        refused = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert refused.error == (400, 80003, 2446079)
        message = refused.body["error"]["message"]
        assert message.startswith("(#80003) There have been too many calls to this ad-account")
        assert "Retry-After" not in refused.headers
        assert await client.members(audience) == []
        # The call before last was refused and counts, too: it is the newest ones that must run out, not the first.
        refused = await client.call("GET", audience)
        assert refused.error == (400, 80003, 2446079)
        assert use_case(refused)["call_count"] > 100
        minutes = use_case(refused)["estimated_time_to_regain_access"]
        assert minutes == 60
        await client.advance((minutes - 1) * MINUTE)
        assert (await client.call("GET", audience)).status == 400
        minutes = use_case(await client.call("GET", audience))["estimated_time_to_regain_access"]
        assert minutes > 0
        await client.advance(minutes * MINUTE)
        assert (await client.call("GET", audience)).status == 200


async def test_calls_while_blocked_push_the_time_on() -> None:
    async def minutes_after(calls: int) -> int:
        async with running(limited(calls_per_hour=2)) as client:
            for _ in range(2):
                await client.call("GET", LIST)
            await client.advance(30 * MINUTE)
            answers = [await client.call("GET", LIST) for _ in range(calls)]
            assert {answer.status for answer in answers} == {400}
            return int(use_case(answers[-1])["estimated_time_to_regain_access"])

    assert (await minutes_after(1), await minutes_after(2)) == (30, 60)


@pytest.mark.parametrize(
    ("tier", "lists", "allowance"),
    [
        ("standard_access", 0, 190_000),
        ("development_access", 0, 5_000),
        ("development_access", 3, 5_120),
        ("standard_access", 100_000, 700_000),
    ],
)
def test_allowances_of_the_tiers(tier: Any, lists: int, allowance: int) -> None:
    assert LimitOptions(tier=tier).allowance(lists) == allowance


async def test_the_tier_is_named() -> None:
    async with running(limited(tier="development_access")) as client:
        assert (await upload(client, await client.create()))["ads_api_access_tier"] == "development_access"


async def test_calls_of_strangers_count_against_nobody() -> None:
    options = SandboxOptions(
        tokens=(AccessToken(TOKEN), AccessToken("elsewhere", ad_accounts=frozenset({"act_2"}))),
        limits=LimitOptions(calls_per_hour=10),
    )
    async with running(options) as client:
        for token in ("elsewhere", "wrong"):
            for _ in range(20):
                await client.request("GET", f"/v25.0/{LIST}", params={"access_token": token})
        assert use_case(await client.call("GET", LIST))["call_count"] == 10


# --- the score of reads and writes ---


@pytest.mark.parametrize(("which", "code", "subcode"), [("17", 17, 2446079), ("613", 613, 1487742)])
async def test_the_score_limiter_counts_writes_three_times(which: Any, code: int, subcode: int) -> None:
    async with running(limited(score=10, score_error=which)) as client:
        audience = await client.create()  # 3 points
        assert (await upload(client, audience))["acc_id_util_pct"] == 60
        assert (await upload(client, audience))["acc_id_util_pct"] == 90
        assert (await client.call("GET", audience)).status == 200  # 10 points
        refused = await client.users("POST", audience, ["EXTERN_ID"], [["v"]])
        assert refused.error == (400, code, subcode)
        usage = orjson.loads(refused.headers["X-Ad-Account-Usage"])
        assert (usage["acc_id_util_pct"], usage["reset_time_duration"]) == (100, 60)
        assert (await client.call("GET", "act_2/customaudiences")).status == 200
        await client.advance(300)
        assert (await upload(client, audience))["acc_id_util_pct"] == 30
        assert len(await client.members(audience)) == 1


async def test_a_demo_app_is_blocked_for_five_minutes_behind_twenty_writes() -> None:
    async with running(limited(tier="development_access", score_error="17")) as client:
        audience = await client.create()
        for _ in range(19):
            await client.add(audience, ["EXTERN_ID"], ["u"])
        assert (await client.users("POST", audience, ["EXTERN_ID"], [["u"]])).error == (400, 17, 2446079)
        await client.advance(299)
        assert (await client.call("GET", audience)).error == (400, 17, 2446079)
        await client.advance(299)
        assert (await client.call("GET", audience)).error == (400, 17, 2446079), "it was pushed on"
        await client.advance(300)
        assert (await client.call("GET", audience)).status == 200


async def test_without_the_score_limiter_twenty_writes_are_nothing() -> None:
    async with running(limited(tier="development_access")) as client:
        audience = await client.create()
        for _ in range(25):
            await client.add(audience, ["EXTERN_ID"], ["u"])


# --- versions ---

SERVED, ENDED = frozenset({"v25.0", "v26.0"}), frozenset({"v24.0", "v9.0"})


@pytest.mark.parametrize(
    ("ended", "version", "served"),
    [
        ("upgrade", "v25.0", "v25.0"),
        ("upgrade", "v26.0", "v26.0"),
        ("upgrade", "v24.0", "v25.0"),
        ("upgrade", "v9.0", "v25.0"),
        ("upgrade", "v27.0", None),
        ("upgrade", "v1.0", None),
        ("refuse", "v24.0", None),
        ("refuse", "v25.0", "v25.0"),
    ],
)
async def test_which_version_serves(ended: Any, version: str, served: str | None) -> None:
    options = SandboxOptions(versions=SERVED, ended_versions=ENDED, ended_version=ended)
    async with running(options) as client:
        answer = await client.request("GET", f"/{version}/{LIST}", params={"access_token": TOKEN})
        if served is None:
            assert answer.error == (400, 2635, None)
            return
        assert answer.status == 200
        assert answer.headers["facebook-api-version"] == served
        warning = answer.headers.get("X-Ad-Api-Version-Warning")
        if served == version:
            assert warning is None
        else:
            assert warning == f"The call has been auto-upgraded to {served} as {version} has been deprecated"


async def test_an_ended_version_without_a_next_is_refused() -> None:
    options = SandboxOptions(versions=frozenset({"v25.0"}), ended_versions=frozenset({"v30.0"}))
    async with running(options) as client:
        answer = await client.request("GET", f"/v30.0/{LIST}", params={"access_token": TOKEN})
        assert answer.error == (400, 2635, None)


# --- proofs ---

SECRET = "sandbox-app-secret"
NOW = 1_767_225_600
# The values that the reference prints for this secret and the token EAAsandboxtoken.
PLAIN = "81e089c3cc221cb0ff43072732be4822a93df06aa7b830d912ab715a76b307d8"
TIMED = "1cca1f9985ed666311653cd798f3171e072d8869e005de8543862e25db119f4c"


def timed(seconds: int, token: str = TOKEN) -> dict[str, str]:
    proof = hmac.new(SECRET.encode(), f"{token}|{seconds}".encode(), hashlib.sha256).hexdigest()
    return {"appsecret_proof": proof, "appsecret_time": str(seconds)}


@pytest.mark.parametrize(
    ("required", "params", "taken"),
    [
        pytest.param(True, {"appsecret_proof": PLAIN}, True, id="plain"),
        pytest.param(True, {"appsecret_proof": TIMED, "appsecret_time": str(NOW)}, True, id="timed"),
        pytest.param(True, timed(NOW - 300), True, id="five minutes old"),
        pytest.param(True, timed(NOW - 301), False, id="older"),
        pytest.param(True, {}, False, id="missing"),
        pytest.param(False, {}, True, id="missing, and not asked for"),
        pytest.param(True, {"appsecret_proof": TIMED}, False, id="timed without its time"),
        pytest.param(
            True, {"appsecret_proof": TIMED, "appsecret_time": str(NOW - 1)}, False, id="of another time"
        ),
        pytest.param(True, {"appsecret_proof": TIMED, "appsecret_time": "soon"}, False, id="no time"),
        pytest.param(False, {"appsecret_proof": PLAIN[::-1]}, False, id="wrong although not asked for"),
        pytest.param(True, timed(NOW, "another token"), False, id="of another token"),
        pytest.param(True, {"appsecret_proof": "é"}, False, id="no proof at all"),
    ],
)
async def test_proofs(required: bool, params: dict[str, str], taken: bool) -> None:
    assert datetime.fromtimestamp(NOW, UTC) == FIXED
    options = SandboxOptions(now=lambda: FIXED, app_secret=SECRET, require_proof=required)
    async with running(options) as client:
        answer = await client.call("GET", LIST, params=params)
        if taken:
            assert answer.status == 200, answer.text
        else:
            assert answer.error == (400, 100, None)
            assert answer.body["error"]["type"] == "GraphMethodException"
            assert "appsecret_proof" in answer.body["error"]["message"]


async def test_without_a_secret_a_proof_is_not_looked_at() -> None:
    async with running() as client:
        assert (await client.call("GET", LIST, params={"appsecret_proof": "x"})).status == 200
