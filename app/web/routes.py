"""The worker's pages for people and monitors: /stats, /health, /ready and /metrics.

What it knows of one profile is in app.web.profiles. /health asks whether the process should be restarted, /ready
whether it processes at this moment: a worker that starts or rebalances is healthy and not ready. They change nothing,
take no parameter and no body, and answer everybody who can reach the port.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from app.errors import kind_and_place
from app.web.metrics import metrics_registry
from app.web.stats import Stats
from app.web.worker_view import displayable

_logger = logging.getLogger(__name__)

OK = 200
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
INTERNAL_ERROR = 500
NOT_IMPLEMENTED = 501
UNAVAILABLE = 503

Answer = Callable[[], web.Response]


def routes(stats: Stats, ready: Callable[[], bool], healthy: Callable[[], str | None]) -> list[web.RouteDef]:
    """`healthy` gives None, or in words why the process should be restarted, with no identifier and no secret."""
    registry = metrics_registry(stats.worker, ready)

    def stats_page() -> web.Response:
        return json_response(stats.document(ready=ready()))

    def health_page() -> web.Response:
        reason = healthy()
        if reason is None:
            return json_response({"status": "ok"})
        return json_response({"status": "failing", "reason": displayable(reason)}, UNAVAILABLE)

    def ready_page() -> web.Response:
        if ready():
            return json_response({"status": "ready"})
        reason = "the worker is starting, or partitions are being assigned"
        return json_response({"status": "not ready", "reason": reason}, UNAVAILABLE)

    def metrics_page() -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=generate_latest(registry), headers=headers)

    pages = {"/stats": stats_page, "/health": health_page, "/ready": ready_page, "/metrics": metrics_page}
    return [route for path, answer in pages.items() for route in _page(path, answer)]


def not_built(path: str) -> str | None:
    """What to say of a page that this release has not yet; None: it is none of those."""
    if path == "/":
        return "the dashboard is not built yet: /stats has its numbers"
    if path == "/v1" or path.startswith("/v1/"):
        return "HTTP ingest is not built yet: write calls to the source topic, by `audience-sync produce` for example"
    return None


def not_found_route() -> web.RouteDef:
    """Answers whatever no other route does; to be added behind all others."""

    async def not_found(request: web.Request) -> web.Response:
        reason = not_built(request.path)
        if reason is not None:
            return json_response({"error": reason}, NOT_IMPLEMENTED)
        # The path is not repeated: it may hold an identifier.
        return json_response({"error": "there is no such page"}, NOT_FOUND)

    # `s`: a path may hold a line end too.
    return web.route("*", "/{path:(?s:.*)}", not_found)


def json_response(content: Any, status: int = OK) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


def _page(path: str, answer: Answer) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        del request
        try:
            return answer()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the worker goes on
            _logger.error("%s cannot be answered: %s", path, kind_and_place(exc))  # noqa: TRY400 - its text may be anything
            return json_response({"error": "an internal error; the log says more"}, INTERNAL_ERROR)

    async def not_allowed(request: web.Request) -> web.Response:
        del request
        refusal = json_response({"error": f"{path} answers GET and HEAD"}, METHOD_NOT_ALLOWED)
        refusal.headers["Allow"] = "GET, HEAD"
        return refusal

    return [web.get(path, page), web.route("*", path, not_allowed)]
