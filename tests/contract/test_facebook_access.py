"""What Facebook says of who calls, asked of the sandbox; and that nothing secret is in any text of it."""

from __future__ import annotations

import datetime as dt
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_access import FacebookAccess
from app.adapters.facebook_credentials import Credentials
from app.adapters.facebook_graph import FacebookGraph
from app.domain.access_tokens import TokenFacts
from app.domain.data_use import DataUse
from app.domain.delivery import GraphRefusal, NotSentError, classify
from app.domain.delivery_errors import Reaction, Scope
from app.errors import InvalidInputError
from app.ports import ReplaceBatch
from app.sandbox.options import AccessToken, SandboxOptions
from schemas.data_use import DataProcessing
from tests.contract.sandbox_client import ACCOUNT, SandboxClient, running, sha

TOKEN, SECRET, APP = "EAAcanaryzq7token0123456789", "zq7-app-secret-canary", "42"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SECONDS = int(NOW.timestamp())


class At(SystemClock):
    def now_ms(self) -> int:
        return SECONDS * 1_000


def options(**more: Any) -> SandboxOptions:
    token = more.pop("token", AccessToken(TOKEN))
    return SandboxOptions(tokens=(token,), app_id=APP, app_secret=SECRET, now=lambda: NOW, **more)


@asynccontextmanager
async def both(
    sandbox_options: SandboxOptions,
    *,
    secret: str | None = SECRET,
    timed: bool = True,
    version: str = "v25.0",
) -> AsyncIterator[tuple[FacebookAccess, SandboxClient]]:
    credentials = Credentials(
        SecretStr(TOKEN), None if secret is None else SecretStr(secret), timed_proof=timed
    )
    async with running(sandbox_options) as sandbox:
        url = sandbox.sandbox.base_url
        async with FacebookAccess(url, version, credentials, At()) as access:
            yield access, sandbox


async def test_what_is_said_of_a_token() -> None:
    ends = SECONDS + 86_400
    known = AccessToken(
        TOKEN, frozenset({"ads_read", "ads_management"}), None, ends, data_access_expires_at=ends + 5
    )
    async with both(options(token=known)) as (access, _):
        assert await access.token_facts() == TokenFacts(
            valid=True,
            scopes=("ads_management", "ads_read"),
            expires_at=ends * 1_000,
            data_access_expires_at=(ends + 5) * 1_000,
            app_id=APP,
            kind="SYSTEM_USER",
        )
        # Another one that Facebook does not know.
        assert await access.token_facts(SecretStr("EAAunknown")) == TokenFacts(valid=False)


async def test_a_token_without_an_end_never_ends() -> None:
    async with both(options()) as (access, _):
        assert (await access.token_facts()).expires_at is None


async def test_a_token_that_has_ended_is_refused_by_its_code() -> None:
    async with both(options(token=AccessToken(TOKEN, expires_at=SECONDS))) as (access, _):
        with pytest.raises(GraphRefusal) as caught:
            await access.token_facts()
        assert (caught.value.refusal.code, caught.value.refusal.subcode) == (190, 463)


async def test_a_token_is_exchanged_for_one_of_sixty_days_and_used_by_all_that_share_it() -> None:
    async with both(options(token=AccessToken(TOKEN, expires_at=SECONDS + 60))) as (access, sandbox):
        new = await access.exchange_token(APP)
        facts = await access.token_facts(new)
        assert (facts.valid, facts.expires_at) == (True, (SECONDS + 60 * 86_400) * 1_000)
        # Nothing is changed by that; the old one works to its end.
        assert access.held_token().get_secret_value() == TOKEN
        access.use_token(new)
        await sandbox.request("POST", "/_sandbox/clock", json={"advance_seconds": 61})
        assert (await access.token_facts()).valid
        assert not (await access.token_facts(SecretStr(TOKEN))).valid


async def test_an_exchange_needs_the_app_and_its_secret() -> None:
    async with both(options()) as (access, _):
        with pytest.raises(GraphRefusal, match="application"):
            await access.exchange_token("43")
    async with both(options(), secret="another") as (access, _):
        with pytest.raises(GraphRefusal):
            await access.exchange_token(APP)
    async with both(options(), secret=None) as (access, _):
        assert not access.can_exchange
        with pytest.raises(InvalidInputError, match="FACEBOOK_APP_SECRET is not set"):
            await access.exchange_token(APP)


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "plain"])
async def test_both_forms_of_the_proof_are_taken_where_one_is_required(timed: bool) -> None:
    async with both(options(require_proof=True), timed=timed) as (access, _):
        assert (await access.token_facts()).valid


@pytest.mark.parametrize("secret", [None, "of another app"])
async def test_without_a_proof_or_with_a_wrong_one_the_secret_is_asked_for(secret: str | None) -> None:
    async with both(options(require_proof=True), secret=secret) as (access, _):
        with pytest.raises(GraphRefusal) as caught:
            await access.token_facts()
        decision = classify(caught.value.refusal)
        assert (decision.reaction, decision.scope) == (Reaction.AUTH_OR_TERMS, Scope.APP)
        assert "FACEBOOK_APP_SECRET" in (decision.instruction or "")


async def test_what_is_said_of_an_ad_account() -> None:
    async with both(options()) as (access, _):
        assert "ADVERTISE" in (await access.account_facts(ACCOUNT, "user_tasks")).tasks
        assert (await access.account_facts(ACCOUNT, "business")).business == "Sandbox business"
        assert (await access.account_facts(ACCOUNT, "tos_accepted")).terms_accepted
    without = options(
        token=AccessToken(TOKEN, tasks=frozenset()),
        accounts_without_business=frozenset({ACCOUNT}),
        accounts_without_terms=frozenset({ACCOUNT}),
    )
    async with both(without) as (access, _):
        assert (await access.account_facts(ACCOUNT, "user_tasks")).tasks == ()
        assert (await access.account_facts(ACCOUNT, "business")).business is None
        assert not (await access.account_facts(ACCOUNT, "tos_accepted")).terms_accepted
        with pytest.raises(InvalidInputError):
            await access.account_facts("act_1/../2", "business")


async def test_a_version_that_has_ended_is_noticed_either_way() -> None:
    ended = frozenset({"v24.0"})
    async with both(options(ended_versions=ended, versions=frozenset({"v25.0"})), version="v24.0") as (
        access,
        _,
    ):
        await access.token_facts()
        assert "auto-upgraded to v25.0 as v24.0 has been deprecated" in (access.version_warning or "")
    async with both(options(ended_versions=ended, ended_version="refuse"), version="v24.0") as (access, _):
        with pytest.raises(GraphRefusal) as caught:
            await access.token_facts()
        assert "AUDIENCE_SYNC_FACEBOOK_API_VERSION" in (classify(caught.value.refusal).instruction or "")
    async with both(options(ended_versions=ended, versions=frozenset({"v25.0"}))) as (access, _):
        await access.token_facts()
        assert access.version_warning is None


# -- consent and limits of use -----------------------------------------------------------------------------------

CALIFORNIA = DataUse(True, DataProcessing(options=["LDU"], country=1, state=1000))


async def test_consent_and_limited_use_go_with_those_who_are_added_or_put_in_the_place_of_all() -> None:
    async with (
        running() as sandbox,
        FacebookGraph(sandbox.sandbox.base_url, "v25.0", SecretStr(TOKEN), SystemClock()) as graph,
    ):
        audience = await graph.create_audience(ACCOUNT, "List", "", "USER_PROVIDED_ONLY")
        rows = [[sha("a@b.co")], ["no hash"]]
        answer = await graph.add_users(audience, ["EMAIL"], rows, None, CALIFORNIA)
        # Refused rows are named as they were before.
        assert answer.invalid == {'["no hash"]': "invalid hash in EMAIL"}
        await graph.remove_users(audience, ["EMAIL"], rows[:1])
        batch = ReplaceBatch(1, 1, True, 1)
        await graph.replace_users(audience, ["EMAIL"], rows[:1], batch, CALIFORNIA)
        await graph.add_users(audience, ["EMAIL"], rows[:1], None, DataUse(None, DataProcessing(options=[])))
        added, removed, replaced, unlimited = [
            request["body"] for request in await sandbox.log() if request["path"].partition("/users")[1]
        ]
    limited = [
        "EMAIL",
        "DATA_PROCESSING_OPTIONS",
        "DATA_PROCESSING_OPTIONS_COUNTRY",
        "DATA_PROCESSING_OPTIONS_STATE",
    ]
    for body in (added, replaced):
        assert body["customer_consent"] is True
        assert body["payload"]["schema"] == limited
        assert body["payload"]["data"][0] == [sha("a@b.co"), ["LDU"], 1, 1000]
    assert removed == {"payload": {"schema": ["EMAIL"], "data": [[sha("a@b.co")]]}}
    assert unlimited["payload"]["schema"] == limited[:2]
    assert unlimited["payload"]["data"] == [[sha("a@b.co"), []]]
    assert "customer_consent" not in unlimited


# -- secrets -----------------------------------------------------------------------------------------------------


async def test_no_secret_is_in_any_text_of_asking_about_tokens(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Facebook quotes in its answers whatever it was sent; everything is logged that can be."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []

    async def quoting(request: web.Request) -> web.Response:
        message = f"{request.headers['Authorization']} {request.path_qs} {dict(request.query)}"
        return web.json_response(
            {"error": {"code": 190, "message": message, "fbtrace_id": SECRET}}, status=400
        )

    async def malformed(request: web.Request) -> web.Response:
        return web.json_response({"data": f"{dict(request.query)}", "access_token": [SECRET, TOKEN]})

    for answer in (quoting, malformed):
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        credentials = Credentials(SecretStr("EAAformercanaryzq7"), SecretStr(SECRET))
        credentials.use(SecretStr(TOKEN))
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with FacebookAccess(url, "v25.0", credentials, At()) as access:
            for call in (
                access.token_facts(),
                access.exchange_token(APP),
                access.account_facts(ACCOUNT, "business"),
            ):
                with pytest.raises(GraphRefusal) as caught:
                    await call
                texts += [str(caught.value), repr(caught.value), repr(caught.value.refusal)]
            texts += [repr(access), str(vars(access)), repr(credentials), str(vars(credentials))]
        await runner.cleanup()
        async with FacebookAccess(url, "v25.0", credentials, At()) as access:
            with pytest.raises(NotSentError) as unreachable:
                await access.token_facts()
            cause = unreachable.value.__cause__
            texts += [str(unreachable.value), repr(unreachable.value), str(cause), repr(cause)]
    said = capfd.readouterr()
    everything = "\n".join([*texts, caplog.text, said.out, said.err])
    assert "190" in everything
    assert "has an unknown form" in everything
    proof = credentials.proof(At().now_ms())["appsecret_proof"]
    assert "appsecret_proof=***" in everything
    for secret in (TOKEN, SECRET, "EAAformercanaryzq7", proof):
        assert secret not in everything, secret


@asynccontextmanager
async def giving(new: str) -> AsyncIterator[FacebookAccess]:
    """Gives this token in exchange, and then quotes whatever it is asked about."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("access_token"):
            return web.json_response({"access_token": new})
        error = {"code": 190, "message": f"Cannot parse {request.query['input_token']}"}
        return web.json_response({"error": error}, status=400)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    credentials = Credentials(SecretStr(TOKEN), SecretStr(SECRET))
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with FacebookAccess(url, "v25.0", credentials, At()) as access:
            yield access
    finally:
        await runner.cleanup()


async def test_a_new_token_is_secret_before_it_is_used() -> None:
    # Tokens need not look like today's.
    async with giving("zq7-canary-of-another-form") as access:
        new = await access.exchange_token(APP)
        with pytest.raises(GraphRefusal, match=r"Cannot parse \*\*\*") as caught:
            await access.token_facts(new)
        assert "zq7" not in repr(caught.value.refusal)


@pytest.mark.parametrize("text", ["", "zq7 canary", "zq7\ncanary", "zq7-cänary"])
async def test_what_no_header_can_carry_is_no_new_token(text: str) -> None:
    """It would stand in the file in place of the one that works."""
    async with giving(text) as access:
        with pytest.raises(GraphRefusal, match="is no token") as caught:
            await access.exchange_token(APP)
        assert "zq7" not in str(caught.value)


async def test_the_sandbox_keeps_no_token_in_its_log() -> None:
    async with both(options()) as (access, sandbox):
        new = await access.exchange_token(APP)
        await access.token_facts(new)
        log = str(await sandbox.log())
    assert "debug_token" in log
    assert "oauth/access_token" in log
    for secret in (TOKEN, SECRET, new.get_secret_value()):
        assert secret not in log


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of an authority that nobody trusts, for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_certificate_that_is_not_trusted_is_not_talked_to(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"data": {"is_valid": True}})

    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    if trusted:
        # The same certificate as the machine's own authority: it is the check that refused it, nothing else.
        trusting = ssl.create_default_context(cafile=str(cert))
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    try:
        url = f"https://localhost:{runner.addresses[0][1]}"
        async with FacebookAccess(url, "v25.0", Credentials(SecretStr(TOKEN)), SystemClock()) as access:
            if trusted:
                assert (await access.token_facts()).valid
            else:
                with pytest.raises(NotSentError, match="ClientConnectorCertificateError"):
                    await access.token_facts()
    finally:
        await runner.cleanup()
    assert len(seen) == (1 if trusted else 0)
