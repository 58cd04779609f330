"""A worker whose audiences are of those with an event of their name, and what Facebook has of them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.integration.installation import Installation, WorkerProcess, wait_until


def key_of(name: str) -> str:
    return name.lower().replace(" ", "_")


@dataclass
class Run:
    installation: Installation
    worker: WorkerProcess
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def enter(self, name: str, count: int = 5) -> set[str]:
        """New people do what makes them members."""
        users = {f"user_{next(self._numbers)}" for _ in range(count)}
        self.installation.produce(
            [{"type": "track", "event": name, "userId": user} for user in sorted(users)]
        )
        return users

    def destination(self, name: str) -> dict[str, Any]:
        assert self.worker.process.poll() is None, self.worker.said
        stats = self.worker.stats()
        assert stats is not None
        [found] = stats["audiences"][key_of(name)]["destinations"]
        return dict(found)

    def requests(self, name: str) -> list[dict[str, Any]]:
        """Calls of the users edge of this audience."""
        identifier = self.destination(name)["facebook_id"]
        return [
            request
            for request in self.installation.sandbox_get(f"requests?audience={identifier}")
            if request["path"].endswith("/users")
        ]

    def members(self, name: str) -> list[str]:
        identifier = self.destination(name)["facebook_id"]
        found = self.installation.sandbox_get(f"audiences/{identifier}/members")
        return sorted(member["EXTERN_ID"] for member in found["members"])

    def wait(self, condition: Any) -> None:
        wait_until(condition, lambda: f"{self.worker.said}\n{self.worker.stats()}")

    def wait_for_members(self, name: str, users: set[str]) -> None:
        self.wait(lambda: set(self.members(name)) >= users)
        self.wait(
            lambda: self.destination(name)["state"] == "live" and self.destination(name)["pending"] == 0
        )

    def letters(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.installation.dead_letters() if one["destination"] == key_of(name)]

    def fault(self, name: str, respond: dict[str, Any], **matchers: Any) -> str:
        """Meets this audience's users calls alone."""
        identifier = self.destination(name)["facebook_id"]
        return self.installation.fault(respond, path=f"/{identifier}/users", **matchers)


@contextmanager
def delivering(bootstrap_servers: str, audiences: str, probe_seconds: float) -> Iterator[Run]:
    """An installation of its own with a worker at rest."""
    installation = Installation(
        bootstrap_servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        audiences,
        settings={"AUDIENCE_SYNC_FACEBOOK_PROBE_SECONDS": str(probe_seconds)},
    )
    try:
        worker = installation.start_worker()
        installation.wait_until_idle(worker)
        yield Run(installation, worker)
    finally:
        installation.close()
