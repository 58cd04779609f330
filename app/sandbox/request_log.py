"""Remembers the requests a sandbox has had, within bounds, and never a token.

Secrets are left out by their names. Should one of those names, or the token itself, still occur in what is
left, then that text is not kept at all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from app.sandbox.call import PEOPLE_PARAMETERS, Call

if TYPE_CHECKING:
    from app.sandbox.options import SandboxOptions

SECRETS = ("access_token", "appsecret_proof", "input_token", "fb_exchange_token", "client_secret")

EXCHANGE = ("oauth", "access_token")

_LONGEST_PATH = 4096
_SHORTEST_TOKEN_SEARCHED = 8
"""A shorter one would be found in innocent text."""


@dataclass(slots=True)
class LoggedRequest:
    """`status` is None while there is no answer, and for good when the connection was cut instead."""

    at: str
    method: str
    path: str
    subject: str | None
    rows: int
    body: bytes | None
    status: int | None = None

    def shown(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "body": None if self.body is None else orjson.Fragment(self.body),
            "rows": self.rows,
        }


class RequestLog:
    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._requests: deque[LoggedRequest] = deque()
        self._with_body: deque[LoggedRequest] = deque()  # the same requests, without those that have none
        self._body_bytes = 0

    def record(self, call: Call, at: str, sent_bytes: int) -> LoggedRequest:
        """Note a request on its arrival; the caller sets the status when there is one."""
        _, rows = call.upload
        body = self._body(call) if sent_bytes <= self._options.request_log_body_bytes else None
        request = LoggedRequest(at, call.method, _path(call), call.subject, len(rows), body)
        self._requests.append(request)
        if body is not None:
            self._with_body.append(request)
            self._body_bytes += len(body)
        while self._body_bytes > self._options.request_log_total_bytes:
            self._let_go_of_oldest_body()
        while len(self._requests) > self._options.request_log_entries:
            if self._requests.popleft().body is not None:
                self._let_go_of_oldest_body()
        return request

    def shown(self, audience_id: str | None = None) -> list[dict[str, Any]]:
        """In order of arrival; with an id, only requests to that object."""
        return [one.shown() for one in self._requests if audience_id in {None, one.subject}]

    def clear(self) -> None:
        self._requests.clear()
        self._with_body.clear()
        self._body_bytes = 0

    def _body(self, call: Call) -> bytes | None:
        """The body's parameters, and those of the query that say who: opened, whichever way they came."""
        shown = {name: value for name, value in (call.body or {}).items() if name not in SECRETS}
        shown |= {name: call.parameters[name] for name in PEOPLE_PARAMETERS if name in call.parameters}
        if not shown:
            return None
        text = orjson.dumps(shown)
        too_large = len(text) > self._options.request_log_body_bytes
        return None if too_large or _holds_secret(text, call) else text

    def _let_go_of_oldest_body(self) -> None:
        oldest = self._with_body.popleft()
        self._body_bytes -= len(oldest.body or b"")
        oldest.body = None


def _path(call: Call) -> str:
    if call.segments == EXCHANGE:
        return call.path  # the address is named like a secret, and its query is nothing but secrets
    kept = {name: text for name, text in call.query.items() if name not in {*SECRETS, *PEOPLE_PARAMETERS}}
    for path in (f"{call.path}?{urlencode(kept)}" if kept else call.path, call.path):
        if not _holds_secret(path.encode(), call):
            return path[:_LONGEST_PATH]
    return ""


def _holds_secret(text: bytes, call: Call) -> bool:
    if any(name.encode() in text for name in SECRETS):
        return True
    tokens = [
        token for token in (call.token, call.bearer) if token and len(token) >= _SHORTEST_TOKEN_SEARCHED
    ]
    return any(token.encode() in text for token in tokens)
