"""What a chaos run has sent to the Graph API, over all of its restarts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Sent:
    """Takes in the sandbox's log, which a restart empties, as often as it is told.

    A row is counted in `again` when the last row of the same person in the same Facebook audience did the same with the
    same cells: a refused or unanswered request that is tried again, a batch that a crash has left unconfirmed.
    """

    requests: int = 0
    rows: int = 0
    again: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    _seen: int = 0
    # By audience and person: what its last row did, and with which cells.
    _last: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def take(self, log: list[dict[str, Any]], *, ends: bool = False) -> None:
        """`log` is all since the sandbox's last start; `ends`: another one begins."""
        for request in log[self._seen :]:
            self.requests += 1
            self.rows += request["rows"] or 0
            self.statuses[str(request["status"] or "no answer")] += 1
            self._rows(request)
        self._seen = 0 if ends else len(log)

    def _rows(self, request: dict[str, Any]) -> None:
        path = request["path"].partition("?")[0]
        if request["body"] is None or not path.endswith("/users"):
            return
        payload = request["body"].get("payload")
        if isinstance(payload, str):
            payload = json.loads(payload)
        place = payload["schema"].index("EXTERN_ID")
        for row in payload["data"]:
            who, what = (path, row[place]), (request["method"], tuple(row))
            self.again += self._last.get(who) == what
            self._last[who] = what
