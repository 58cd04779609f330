"""Who may see the pages and act by them: a middleware in front of every route.

Pages that listen on this machine alone are open to whoever is on it, as long as no token is set. Everywhere else, and
whenever one is set, all but /health, /ready and /metrics ask for it. What acts asks for it in any case: a browser
on this machine could be made to send it by any page that it shows.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr

from app.errors import InvalidInputError, kind_and_place
from app.web.routes import INTERNAL_ERROR, json_response, not_built

_logger = logging.getLogger(__name__)

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
# For supervisors and monitors: they hold nothing of any person.
OPEN_PAGES: Final = frozenset({"/health", "/ready", "/metrics"})
_READING: Final = frozenset({"GET", "HEAD"})

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is what the pages listen on; `token` None: none is set. Raises InvalidInputError for pages that would be
    open to other machines.
    """

    host: str
    token: SecretStr | None

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise InvalidInputError(
                f"the pages would listen on {self.host}, where other machines reach them, and no token is set: give "
                "AUDIENCE_SYNC_WEB_TOKEN_FILE (or AUDIENCE_SYNC_WEB_TOKEN), or set AUDIENCE_SYNC_WEB_HOST=127.0.0.1, "
                "or AUDIENCE_SYNC_WEB_PORT=0 for no pages"
            )

    def refusal(self, method: str, path: str, host_header: str, authorization: str) -> tuple[int, str] | None:
        """Status and reason; None: let through."""
        if path in OPEN_PAGES and method in _READING:
            return None
        if self.token is not None:
            if _is_bearer(authorization, self.token.get_secret_value()):
                return None
            return (
                UNAUTHORIZED,
                "this page asks for the token of AUDIENCE_SYNC_WEB_TOKEN: Authorization: Bearer TOKEN",
            )
        if method not in _READING and not_built(path) is None:
            return FORBIDDEN, "only a worker with a token lets anybody act: set AUDIENCE_SYNC_WEB_TOKEN"
        if not self._is_own_name(host_header):
            # A foreign page whose name was made to point at this machine would be let in by a browser.
            return FORBIDDEN, "this worker answers under the names of its own machine alone"
        return None

    def _is_own_name(self, host_header: str) -> bool:
        name = _without_port(host_header).lower().rstrip(".")
        return is_loopback(name) or name in (self.host.lower(), socket.gethostname().lower(), "")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_bearer(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    # In constant time, and in bytes: a header may hold anything.
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def guard(access: Access) -> Middleware:
    """The middleware; every answer gets headers that keep browsers from doing more with it than showing it."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = access.refusal(
            request.method,
            request.path,
            request.headers.get("Host", ""),
            request.headers.get("Authorization", ""),
        )
        response: web.StreamResponse
        if refused is None:
            try:
                response = await handler(request)
            except web.HTTPException:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is, the worker goes on
                # The server would say it with the exception's text, were it not silenced for that.
                _logger.error("a page cannot be answered: %s", kind_and_place(exc))  # noqa: TRY400 - as above
                response = json_response({"error": "an internal error; the log says more"}, INTERNAL_ERROR)
        else:
            status, reason = refused
            response = json_response({"error": reason}, status)
            if status == UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = 'Bearer realm="audience-sync"'
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        # Not which library answers, and in which version.
        response.headers["Server"] = "audience-sync"
        return response

    return guarded
