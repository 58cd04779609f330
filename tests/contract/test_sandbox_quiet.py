"""What the sandbox says of requests: where it failed itself, and nothing that was in them."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from app.sandbox.graph import GraphApi
from app.sandbox.server import start_sandbox
from tests.raw_requests import ask_badly

CANARY = "zq7rawrequest"


async def test_requests_that_cannot_be_read_are_refused_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = await start_sandbox()
    try:
        await asyncio.to_thread(ask_badly, int(sandbox.base_url.rpartition(":")[2]), CANARY)
    finally:
        await sandbox.close()
    assert CANARY not in caplog.text


async def test_a_fault_of_its_own_is_told_by_type_and_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(GraphApi, "answer", broken)
    sandbox = await start_sandbox()
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{sandbox.base_url}/v25.0/me") as answer:
            assert answer.status == 500
    finally:
        await sandbox.close()
    assert "the sandbox cannot answer: RuntimeError at test_sandbox_quiet.py:" in caplog.text
    assert CANARY not in caplog.text
