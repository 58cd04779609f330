"""A worker and an access token that ends: exchanged, kept in its file, changed by hand, and in no text of ours."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.options import AccessToken, SandboxOptions
from app.sandbox.server import RunningSandbox, start_sandbox
from tests.integration.canaries import found_in
from tests.integration.installation import Installation, WorkerProcess, wait_until

AUDIENCES = """
audiences:
  - name: Buyers
    when: {event: Order Completed, within: 30d}
    facebook: {customer_consent: true, data_processing_options: [LDU]}
"""
TOKEN, OTHER = "EAAzq7endingcanary0123456789", "EAAzq7othercanary0123456789"
SECRET, APP = "zq7appsecretcanary", "77"
DAY = 86_400


@contextmanager
def graph_api(options: SandboxOptions) -> Iterator[RunningSandbox]:
    """The stand-in, in a thread of this process, set up as the command has no switch for."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        running = asyncio.run_coroutine_threadsafe(start_sandbox(options=options), loop).result(30)
        yield running
        asyncio.run_coroutine_threadsafe(running.close(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture(scope="module")
def graph() -> Iterator[RunningSandbox]:
    ending = AccessToken(TOKEN, expires_at=time.time() + 5 * DAY)
    options = SandboxOptions(
        tokens=(ending, AccessToken(OTHER)), app_id=APP, app_secret=SECRET, require_proof=True
    )
    with graph_api(options) as running:
        yield running


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def installation(bootstrap_servers: str, graph: RunningSandbox, token_file: Path) -> Iterator[Installation]:
    with closing(
        Installation(
            bootstrap_servers,
            f"test-{uuid.uuid4().hex[:12]}.",
            AUDIENCES,
            settings={
                "AUDIENCE_SYNC_FACEBOOK_API_URL": graph.base_url,
                "FACEBOOK_ACCESS_TOKEN": "",
                "FACEBOOK_ACCESS_TOKEN_FILE": str(token_file),
                "FACEBOOK_APP_SECRET": SECRET,
                "AUDIENCE_SYNC_FACEBOOK_APP_ID": APP,
            },
        )
    ) as made:
        yield made


def about_token(worker: WorkerProcess) -> dict[str, Any]:
    assert worker.process.poll() is None, worker.said
    facebook = (worker.stats() or {}).get("facebook") or {}
    return dict(facebook.get("token") or {})


def bought(*users: str) -> list[dict[str, Any]]:
    return [{"type": "track", "event": "Order Completed", "userId": user} for user in users]


def test_a_token_that_ends_is_exchanged_kept_and_changed_without_a_word_of_it_anywhere(
    installation: Installation, graph: RunningSandbox, token_file: Path
) -> None:
    worker = installation.start_worker()
    wait_until(lambda: about_token(worker).get("refreshed_at") is not None, lambda: worker.said)
    new = token_file.read_text().strip()
    assert new not in (TOKEN, "")
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert "the access token was exchanged for a new one: it lasts until" in worker.said
    described = about_token(worker)
    assert described["valid"] is True
    assert described["scopes"] == ["ads_management", "ads_read"]
    assert described["app_id"] == APP

    installation.produce(bought("zq7-0", "zq7-1", "zq7-2"))
    wait_until(lambda: sent(graph) == {"zq7-0", "zq7-1", "zq7-2"}, lambda: f"{worker.said}{worker.stats()}")
    (audience,) = list(graph.state)
    assert all(person.cells["DATA_PROCESSING_OPTIONS"] == ["LDU"] for person in audience.people)

    # A person puts another one into the file: taken up without a restart.
    token_file.write_text(OTHER)
    wait_until(lambda: about_token(worker).get("expires_at", "") is None, lambda: worker.said)
    assert "the access token's file holds another one, which is used from now on" in worker.said
    installation.produce(bought("zq7-3"))
    wait_until(lambda: len(sent(graph)) == 4, lambda: f"{worker.said}{worker.stats()}")

    assert found_in(installation, [TOKEN, OTHER, new, SECRET], worker) == []
    assert worker.stop() == 0
    assert token_file.read_text() == OTHER


def sent(graph: RunningSandbox) -> set[str]:
    return {person.cells["EXTERN_ID"] for audience in graph.state for person in audience.people}
