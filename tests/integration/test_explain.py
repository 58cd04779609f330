"""`explain` with two workers: whichever is asked, the owner answers."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from tests.integration.installation import AUDIENCE_SYNC, ROOT, Installation, WorkerProcess, wait_until

AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed, within: 30d, sum: {property: revenue, at_least: 2}}}
  - {name: Pro, when: {trait: plan, equals: pro}}
"""


TOKEN = "zq7-token-of-the-pages"


def explain(installation: Installation, profile: str, port: int) -> tuple[int, dict[str, Any], str]:
    ran = subprocess.run(
        [*AUDIENCE_SYNC, "explain", profile, "--json", "--url", f"http://127.0.0.1:{port}"],
        cwd=ROOT,
        env=installation.environment(port, None),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else {}, ran.stderr


def status_without_token(worker: WorkerProcess, page: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{page}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_owner_answers_whoever_is_asked(bootstrap_servers: str) -> None:
    # Nobody dies here: on a machine that is busy, a worker shall not be taken for dead.
    settings = {"AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS": "20", "AUDIENCE_SYNC_WEB_TOKEN": TOKEN}
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    installation = Installation(bootstrap_servers, prefix, AUDIENCES, settings=settings)
    try:
        workers = [installation.start_worker() for _ in range(2)]
        users = [f"user-{number}" for number in range(4)]
        events: list[dict[str, Any]] = []
        for number, user in enumerate(users):
            call = {"userId": user, "anonymousId": f"anon-{number}", "messageId": f"m{number}"}
            order = {"event": "Order Completed", "properties": {"revenue": number}}
            events.append({**call, "type": "track", **order})
            traits = {"plan": "pro", "email": f"{user}@example.com"}
            events.append({**call, "type": "identify", "messageId": f"i{number}", "traits": traits})
        installation.produce(events)
        wait_until(lambda: all(worker.ready() for worker in workers), lambda: workers[0].said)
        installation.wait_until_idle(*workers)
        for worker in workers:
            for number, user in enumerate(users):
                status, shown, said = explain(installation, user, worker.port)
                assert status == 0, said
                buyers, pro = shown["audiences"]
                assert (shown["profile"], buyers["member"], pro["member"]) == (user, number >= 2, True)
                assert buyers["condition"]["seen"][1] == {
                    "name": "sum of revenue",
                    "value": number,
                    "or_more": False,
                }
                assert (buyers["changes_at"] is not None) is (number >= 2)
        for name in ("User-3@example.com", "anon-3"):
            status, shown, said = explain(installation, name, workers[0].port)
            assert (status, shown.get("profile")) == (0, "user-3"), said
        status, shown, said = explain(installation, "nobody", workers[1].port)
        assert (status, shown) == (1, {})
        assert "no worker knows this profile" in said
        for worker in workers:
            for page in ("stats", "profiles/user-3"):
                assert status_without_token(worker, page) == 401
            for page in ("health", "ready", "metrics"):
                assert status_without_token(worker, page) == 200
            assert TOKEN not in worker.said
            assert TOKEN not in Path(f"/proc/{worker.process.pid}/cmdline").read_text()
        del installation.settings["AUDIENCE_SYNC_WEB_TOKEN"]
        status, shown, said = explain(installation, "user-3", workers[0].port)
        assert (status, shown) == (2, {})
        assert "AUDIENCE_SYNC_WEB_TOKEN" in said
    finally:
        installation.close()
