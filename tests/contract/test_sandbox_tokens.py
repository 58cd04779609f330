"""The sandbox's part in tokens, proofs, ended versions and what it tells of ad accounts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, TOKEN, SandboxClient, running, sha

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SECRET, APP = "sandbox-app-secret", "77"
EXCHANGE = {
    "grant_type": "fb_exchange_token",
    "client_id": APP,
    "client_secret": SECRET,
    "set_token_expires_in_60_days": "true",
    "fb_exchange_token": TOKEN,
}


def options(**more: Any) -> SandboxOptions:
    chosen: dict[str, Any] = {"tokens": (AccessToken(TOKEN, expires_at=SECONDS + 100),), "now": lambda: NOW}
    return SandboxOptions(**{**chosen, "app_id": APP, "app_secret": SECRET, **more})


def proof(message: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("sent", "required", "expected"),
    [
        pytest.param({}, False, 200, id="none, and none is required"),
        pytest.param({}, True, 400, id="none"),
        # The check values of Meta's documents.
        pytest.param({"appsecret_proof": "81e089c3cc221cb0ff43072732be4822a93df06aa7b830d912ab715a76b307d8"}, True, 200, id="plain"),
        pytest.param({"appsecret_proof": "1cca1f9985ed666311653cd798f3171e072d8869e005de8543862e25db119f4c", "appsecret_time": "1767225600"}, True, 200, id="timed"),
        pytest.param({"appsecret_proof": proof(f"{TOKEN}|{SECONDS - 300}"), "appsecret_time": str(SECONDS - 300)}, True, 200, id="five minutes old"),
        pytest.param({"appsecret_proof": proof(f"{TOKEN}|{SECONDS - 301}"), "appsecret_time": str(SECONDS - 301)}, False, 400, id="older"),
        pytest.param({"appsecret_proof": proof(f"{TOKEN}|{SECONDS}")}, False, 400, id="timed without its time"),
        pytest.param({"appsecret_proof": proof(f"{TOKEN}|{SECONDS}"), "appsecret_time": str(SECONDS - 1)}, False, 400, id="another time"),
        pytest.param({"appsecret_proof": proof(TOKEN), "appsecret_time": "0" * 5_000}, False, 400, id="no time"),
        pytest.param({"appsecret_proof": proof(TOKEN, "x")}, False, 400, id="another secret, though none is required"),
        pytest.param({"appsecret_proof": "ü"}, False, 400, id="no digest"),
    ],
)  # fmt: skip
async def test_proofs(sent: dict[str, str], required: bool, expected: int) -> None:
    async with running(options(require_proof=required)) as client:
        answer = await client.call("GET", f"{ACCOUNT}/customaudiences", params=sent)
        assert answer.status == expected, answer.text
        if expected != 200:
            assert answer.body["error"]["type"] == "GraphMethodException"
            assert answer.error[1] == 100
            assert "appsecret_proof" in answer.body["error"]["message"]


async def test_an_exchange_gives_another_token_of_the_same_rights_for_sixty_days() -> None:
    known = AccessToken(TOKEN, frozenset({"ads_read"}), frozenset({"act_2"}), SECONDS + 100)
    async with running(options(tokens=(known,))) as client:
        answer = await client.request("GET", "/v25.0/oauth/access_token", params=EXCHANGE)
        assert (answer.status, answer.body["token_type"], answer.body["expires_in"]) == (
            200,
            "bearer",
            60 * 86_400,
        )
        new = answer.body["access_token"]
        assert new != TOKEN
        for _ in range(2):  # before the old one ends, and after
            described = await client.request(
                "GET", "/v25.0/debug_token", params={"access_token": new, "input_token": new}
            )
            data = described.body["data"]
            assert (data["is_valid"], data["scopes"], data["app_id"]) == (True, ["ads_read"], APP)
            assert data["expires_at"] == SECONDS + 60 * 86_400
            assert data["issued_at"] == SECONDS
            await client.advance(101)
        bearer = {"Authorization": f"Bearer {new}"}
        assert (await client.call("GET", "act_1/customaudiences", headers=bearer)).error == (400, 100, 33)
        assert (await client.call("GET", "act_2/customaudiences", headers=bearer)).status == 200
        assert (await client.call("GET", "act_2/customaudiences")).error == (400, 190, 463)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"grant_type": "client_credentials"}, 100),
        ({"client_id": "78"}, 101),
        ({"client_secret": "x"}, 1),
        ({"client_secret": ""}, 1),
        ({"fb_exchange_token": "EAAunknown"}, 190),
        ({"fb_exchange_token": ""}, 190),
        ({"set_token_expires_in_60_days": "perhaps"}, 100),
    ],
)
async def test_exchanges_that_are_refused(changed: dict[str, str], code: int) -> None:
    async with running(options()) as client:
        answer = await client.request("GET", "/v25.0/oauth/access_token", params={**EXCHANGE, **changed})
        assert answer.error[:2] == (400, code)


async def test_a_token_that_has_ended_cannot_be_exchanged() -> None:
    async with running(options()) as client:
        await client.advance(100)
        answer = await client.request("GET", "/v25.0/oauth/access_token", params=EXCHANGE)
        assert answer.error == (400, 190, 463)


async def test_a_version_that_has_ended() -> None:
    ended = frozenset({"v23.0", "v24.0"})
    async with running(options(ended_versions=ended, versions=frozenset({"v25.0"}))) as client:

        async def served(version: str) -> tuple[str, str | None]:
            path = f"/{version}/{ACCOUNT}/customaudiences"
            answer = await client.request("GET", path, params={"access_token": TOKEN})
            assert answer.status == 200
            return answer.headers["facebook-api-version"], answer.headers.get("X-Ad-Api-Version-Warning")

        assert await served("v25.0") == ("v25.0", None)
        said = "The call has been auto-upgraded to v25.0 as v23.0 has been deprecated"
        assert await served("v23.0") == ("v25.0", said)
    async with running(options(ended_versions=ended, ended_version="refuse")) as client:
        path = f"/v24.0/{ACCOUNT}/customaudiences"
        assert (await client.request("GET", path, params={"access_token": TOKEN})).error == (400, 2635, None)


async def test_meta_s_own_client_reads_what_is_told_of_ad_accounts() -> None:
    chosen = options(
        tokens=(AccessToken(TOKEN, tasks=frozenset({"ANALYZE"})),),
        accounts_without_business=frozenset({"act_2"}),
        accounts_without_terms=frozenset({"act_2"}),
    )

    def read(client: SandboxClient, account: str) -> dict[str, Any]:
        session = FacebookSession(app_secret=SECRET, access_token=TOKEN)
        session.GRAPH = client.sandbox.base_url
        fields = [AdAccount.Field.user_tasks, AdAccount.Field.business, AdAccount.Field.tos_accepted]
        api = FacebookAdsApi(session, api_version="v25.0")
        return dict(AdAccount(account, api=api).api_get(fields=fields).export_all_data())

    async with running(chosen) as client:
        first = await asyncio.to_thread(read, client, "act_1")
        assert first["user_tasks"] == ["ANALYZE"]
        assert first["business"]["name"] == "Sandbox business"
        assert first["tos_accepted"] == {"custom_audience_tos": 1}
        second = await asyncio.to_thread(read, client, "act_2")
        assert second == {"id": "act_2", "user_tasks": ["ANALYZE"], "tos_accepted": {}}


@pytest.mark.parametrize(
    ("consent", "status"), [(True, 200), (False, 200), ("true", 200), ("yes", 400), (7, 400)]
)
async def test_consent_is_a_boolean(consent: Any, status: int) -> None:
    async with running(options()) as client:
        audience = await client.create()
        payload = [[sha("a@b.co")]]
        answer = await client.users("POST", audience, ["EMAIL"], payload, customer_consent=consent)
        assert answer.status == status, answer.text
        assert len(await client.members(audience)) == (1 if status == 200 else 0)


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(options())
    assert TOKEN not in repr(options())
