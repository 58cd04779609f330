"""`validate --facebook` as a user runs it, in a process of its own, against a sandbox that is set up to refuse."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.adapters.kafka_embedded import free_port
from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.sandbox_client import SandboxClient, running

ROOT = Path(__file__).parents[2]
TOKEN, SECRET, APP = "EAAzq7validatecanary0123456789", "zq7-validate-secret", "1"
AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed, within: 30d}, facebook: {ad_account_id: act_2}}
  - {name: VIPs, when: {trait: vip, equals: true}}
"""
CHECKS = [
    "address", "token", "permissions",
    "ad account act_1, advertiser", "ad account act_1, business", "ad account act_1, terms",
    "ad account act_2, advertiser", "ad account act_2, business", "ad account act_2, terms",
    "version",
]  # fmt: skip

Outcome = tuple[int, str, str]
Validate = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def audiences(tmp_path: Path) -> Path:
    file = tmp_path / "audiences.yaml"
    file.write_text(AUDIENCES)
    return file


async def validate(audiences: Path, url: str, *arguments: str, **settings: str) -> Outcome:
    """Status, stdout, stderr; no secret is in them."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_SYNC_")}
    environment = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "FACEBOOK_ACCESS_TOKEN": TOKEN,
        "FACEBOOK_APP_SECRET": SECRET,
        "AUDIENCE_SYNC_FACEBOOK_API_URL": url,
        "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID": "1",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from app.commands import main; main()", "validate", str(audiences), "--facebook", *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    for secret in (TOKEN, SECRET):
        assert secret not in out.decode() + err.decode()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def sandbox(token: AccessToken | None = None, **more: Any) -> AsyncIterator[SandboxClient]:
    chosen = SandboxOptions(tokens=(token or AccessToken(TOKEN),), app_id=APP, app_secret=SECRET, **more)
    async with running(chosen) as client:
        yield client


async def checked(audiences: Path, url: str, **settings: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Status, and the findings by check, as programs read them."""
    status, out, _ = await validate(audiences, url, "--json", **settings)
    facebook = json.loads(out)["facebook"]
    assert facebook["ok"] == (status == 0)
    found = {check["check"]: check for check in facebook["checks"]}
    assert list(found) == CHECKS
    return status, found


def of_status(found: dict[str, dict[str, Any]], status: str) -> list[str]:
    return [name for name, check in found.items() if check["status"] == status]


async def test_a_line_for_each_check_behind_the_definitions(audiences: Path) -> None:
    async with sandbox(require_proof=True) as client:
        status, out, err = await validate(audiences, client.sandbox.base_url)
        assert (status, err) == (0, "")
        assert await client.log() != []
        # Nothing is changed at Facebook.
        assert {request["method"] for request in await client.log()} == {"GET"}
    lines = out.splitlines()
    assert lines[0].startswith("buyers (Buyers), computed: ")
    assert [line[8:].partition(": ")[0] for line in lines[2:]] == CHECKS
    assert {line[:8].strip() for line in lines[2:]} <= {"ok", "warning"}
    assert "it does not end by itself" in lines[3]


async def test_programs_read_the_same(audiences: Path) -> None:
    async with sandbox() as client:
        status, found = await checked(audiences, client.sandbox.base_url)
    assert (status, of_status(found, "failed"), of_status(found, "skipped")) == (0, [], [])


@pytest.mark.parametrize(
    ("how", "failed", "fix"),
    [
        ({"token": AccessToken("EAAanother-token")}, ["token"], "FACEBOOK_ACCESS_TOKEN_FILE"),
        ({"token": AccessToken(TOKEN, expires_at=1.0)}, ["token"], "Put a new access token"),
        ({"token": AccessToken(TOKEN, frozenset({"ads_read"}))}, ["permissions"], "ads_management"),
        ({"token": AccessToken(TOKEN, ad_accounts=frozenset({"act_1"}))}, ["ad account act_2, advertiser"], "assign the ad account"),
        ({"token": AccessToken(TOKEN, tasks=frozenset({"ANALYZE"}))}, ["ad account act_1, advertiser", "ad account act_2, advertiser"], "ADVERTISE"),
        ({"accounts_without_business": frozenset({"act_1"})}, ["ad account act_1, business"], "link the ad account"),
        ({"accounts_without_terms": frozenset({"act_2"})}, ["ad account act_2, terms"], "customaudiences/tos/?act=2"),
        ({"ended_versions": frozenset({"v25.0"}), "versions": frozenset({"v26.0"})}, ["version"], "AUDIENCE_SYNC_FACEBOOK_API_VERSION"),
        ({"ended_versions": frozenset({"v25.0"}), "ended_version": "refuse"}, ["token"], "AUDIENCE_SYNC_FACEBOOK_API_VERSION"),
    ],
    ids=["unknown token", "ended token", "no permission", "no account", "no task", "no business", "no terms", "ended version", "refused version"],
)  # fmt: skip
async def test_what_is_missing_fails_alone_with_what_to_do(
    audiences: Path, how: dict[str, Any], failed: list[str], fix: str
) -> None:
    async with sandbox(**how) as client:
        status, found = await checked(audiences, client.sandbox.base_url)
    assert (status, of_status(found, "failed")) == (1, failed)
    assert all(fix in found[name]["fix"] for name in failed)
    # What cannot be asked for the want of something else is no failure of its own.
    skipped = of_status(found, "skipped")
    if failed == ["token"]:
        assert skipped == CHECKS[2:9]
    elif failed == ["ad account act_2, advertiser"]:
        assert skipped == CHECKS[7:9]
    else:
        assert skipped == []


async def test_a_wrong_secret_is_named(audiences: Path) -> None:
    async with sandbox() as client:
        status, found = await checked(
            audiences, client.sandbox.base_url, FACEBOOK_APP_SECRET="of another app"
        )
    assert (status, of_status(found, "failed")) == (1, ["token"])
    assert "FACEBOOK_APP_SECRET" in found["token"]["fix"]


async def test_a_token_of_another_app_than_configured_is_named(audiences: Path) -> None:
    async with sandbox() as client:
        status, found = await checked(
            audiences, client.sandbox.base_url, AUDIENCE_SYNC_FACEBOOK_APP_ID="4711"
        )
    assert (status, of_status(found, "failed")) == (1, ["token"])
    assert "of app 1" in found["token"]["text"]


@pytest.mark.parametrize("app", ["", APP], ids=["left to a person", "exchanged by a worker"])
async def test_a_token_near_its_end_is_a_warning_where_nobody_exchanges_it(audiences: Path, app: str) -> None:
    ends = AccessToken(TOKEN, expires_at=time.time() + 5 * 86_400)
    async with sandbox(ends) as client:
        status, found = await checked(audiences, client.sandbox.base_url, AUDIENCE_SYNC_FACEBOOK_APP_ID=app)
    assert (status, found["token"]["status"]) == (0, "ok" if app else "warning")
    assert "it lasts until" in found["token"]["text"]
    assert (found["token"]["fix"] is None) is bool(app)


async def test_a_business_that_may_not_be_seen_is_no_failure(audiences: Path) -> None:
    body = {
        "error": {
            "message": "(#200) Requires business_management permission",
            "code": 200,
            "type": "OAuthException",
        }
    }
    async with sandbox() as client:
        # The second question about the account.
        await client.fault({"status": 403, "body": body}, path="/act_1$", skip=1, times=1)
        status, found = await checked(audiences, client.sandbox.base_url)
    assert (status, of_status(found, "skipped")) == (0, ["ad account act_1, business"])


async def test_facebook_s_words_are_shown_without_the_token(audiences: Path) -> None:
    body = {"error": {"message": f"Malformed access token {TOKEN}", "code": 190, "type": "OAuthException"}}
    async with sandbox() as client:
        await client.fault({"status": 401, "body": body}, path="debug_token")
        status, found = await checked(audiences, client.sandbox.base_url)
    assert status == 1
    assert "Malformed access token ***" in found["token"]["text"]


async def test_no_answer_for_30_seconds_is_status_3(audiences: Path) -> None:
    began = time.monotonic()
    status, out, err = await validate(audiences, f"http://127.0.0.1:{free_port()}")
    assert (status, len(out.splitlines())) == (3, 3)
    assert time.monotonic() - began > 25
    assert err.startswith("error: Facebook cannot be reached")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FACEBOOK_ACCESS_TOKEN": ""}, "FACEBOOK_ACCESS_TOKEN (or FACEBOOK_ACCESS_TOKEN_FILE) is not set"),
        ({"FACEBOOK_ACCESS_TOKEN": "two words"}, "the token that Meta shows"),
        ({"AUDIENCE_SYNC_FACEBOOK_API_VERSION": "25"}, "AUDIENCE_SYNC_FACEBOOK_API_VERSION"),
        ({"AUDIENCE_SYNC_FACEBOOK_API_URL": "http://graph.facebook.com"}, "expected https"),
    ],
)
async def test_settings_that_cannot_be_used_are_status_2(
    audiences: Path, settings: dict[str, str], said: str
) -> None:
    status, _, err = await validate(audiences, "http://127.0.0.1:9", **settings)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


async def test_definitions_that_cannot_be_used_are_status_2_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("audiences: [{name: A}]")
    async with sandbox() as client:
        status, out, _ = await validate(file, client.sandbox.base_url)
        assert (status, out, await client.log()) == (2, "", [])


async def test_ad_accounts_that_are_not_asked_are_named(tmp_path: Path) -> None:
    file = tmp_path / "audiences.yaml"
    accounts = "".join(f"\n      - {{ad_account_id: act_{number}}}" for number in range(100, 127))
    file.write_text(
        f"audiences:\n  - name: VIPs\n    when: {{trait: vip, equals: true}}\n    facebook:{accounts}\n"
    )
    async with sandbox() as client:
        status, out, _ = await validate(file, client.sandbox.base_url)
    assert status == 0
    assert sum(", advertiser: " in line for line in out.splitlines()) == 25
    assert "skipped facebook: 2 more ad accounts are not asked, act_125, act_126\n" in out
