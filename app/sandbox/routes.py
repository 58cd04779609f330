"""HTTP: every path is a Graph call but those under /_sandbox/, which inspect the sandbox and order faults.

Inspection is never served under a version prefix, so that no client can come to depend on it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.sandbox.call import Call, read_call
from app.sandbox.doors import upgrade_warning
from app.sandbox.errors import GraphError, ordered_error
from app.sandbox.faults import FaultRule, Faults, Outcome, Respond
from app.sandbox.graph import GraphApi
from app.sandbox.request_log import LoggedRequest, RequestLog
from app.sandbox.switches import Switches, shown
from app.sandbox.usage import usage_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.options import SandboxClock, SandboxOptions
    from app.sandbox.state import SandboxState
    from app.sandbox.usage import Usage

# So many pieces does a slow body come in.
_PIECES = 10

VERSION_WITHOUT_ONE = "v25.0"
"""Every answer names a version, also the one that refuses a path without."""


class ClockAdvance(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    advance_seconds: float = Field(ge=0, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class GraphRoute:
    """Answers calls of the API: faults first, then the API, then the headers every answer has."""

    def __init__(self, api: GraphApi, faults: Faults, log: RequestLog, clock: SandboxClock) -> None:
        self._api = api
        self._faults = faults
        self._log = log
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = await read_call(request)
        logged = self._log.record(call, self._clock.text(), request.content_length or 0)
        # Asked before the call is applied: afterwards a deleted audience has no account.
        ad_account_id = self._api.ad_account_of(call)
        outcome = self._faults.outcome(call, ad_account_id)
        if outcome.delay_seconds:
            await asyncio.sleep(outcome.delay_seconds)
        if outcome.drop == "before":
            return _cut(request)
        for happens in outcome.happens:
            self._api.happen(call, happens)
        response: web.Response
        if outcome.answer is not None and outcome.drop is None:
            response = _ordered(outcome.answer, _new_trace())
        else:
            response = self._answer(call)
        if outcome.drop == "after":
            return _cut(request)
        self._set_headers(response, call, ad_account_id, outcome.usage)
        response.headers.update(outcome.headers)
        if outcome.cut_at is not None or outcome.slow_seconds:
            return await _in_pieces(request, response, outcome, logged)
        logged.status = response.status
        return response

    def _answer(self, call: Call) -> web.Response:
        trace = _new_trace()
        try:
            body, status, challenge = self._api.answer(call), 200, None
        except GraphError as error:
            body, status, challenge = error.envelope(trace), error.http_status, error.challenge()
        response = _json(body, status)
        response.headers["x-fb-request-id"] = trace
        if challenge is not None:
            response.headers["WWW-Authenticate"] = challenge
        return response

    def _set_headers(
        self, response: web.Response, call: Call, ad_account_id: str | None, ordered: Usage | None
    ) -> None:
        headers = response.headers
        served = call.served_version or call.version or VERSION_WITHOUT_ONE
        headers["facebook-api-version"] = served
        if call.version is not None and served != call.version:
            headers["X-Ad-Api-Version-Warning"] = upgrade_warning(call.version, served)
        headers.setdefault("x-fb-request-id", _new_trace())
        headers["x-fb-trace-id"] = _new_trace()
        if ad_account_id is not None:
            is_upload = call.edge == "users" and call.action == "POST"
            usage = ordered or self._api.usage_of(ad_account_id)
            headers.update(usage_headers(usage, ad_account_id, is_upload=is_upload))


class Inspection:
    """`/_sandbox/...`: what the sandbox holds, what it was asked, what is to go wrong, and its clock."""

    def __init__(
        self, api: GraphApi, state: SandboxState, faults: Faults, log: RequestLog, clock: SandboxClock
    ) -> None:
        self._api = api
        self._state = state
        self._faults = faults
        self._log = log
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sandbox/audiences", self._audiences),
            web.get("/_sandbox/audiences/{id}/members", self._members),
            web.get("/_sandbox/requests", self._requests),
            web.delete("/_sandbox/requests", self._clear_requests),
            web.post("/_sandbox/faults", self._add_fault),
            web.get("/_sandbox/faults", self._list_faults),
            web.delete("/_sandbox/faults", self._clear_faults),
            web.delete("/_sandbox/faults/{id}", self._remove_fault),
            web.post("/_sandbox/clock", self._advance_clock),
            web.get("/_sandbox/switches", self._show_switches),
            web.post("/_sandbox/switches", self._switch),
            web.route("*", "/_sandbox{rest:(/.*)?}", self._nothing),
        ]

    async def _audiences(self, request: web.Request) -> web.Response:
        del request
        self._state.replacements.settle(self._clock.now())
        return _json(
            [
                {
                    "id": audience.details.id,
                    "name": audience.details.name,
                    "ad_account_id": audience.details.ad_account_id,
                    "count": len(audience.people),
                }
                for audience in self._state
            ]
        )

    async def _members(self, request: web.Request) -> web.Response:
        self._state.replacements.settle(self._clock.now())
        audience = self._state.get(request.match_info["id"])
        if audience is None:
            return _refusal(f"there is no audience {request.match_info['id']}; see /_sandbox/audiences", 404)
        members = [person.cells for person in audience.people]
        return _json({"count": len(members), "members": members})

    async def _requests(self, request: web.Request) -> web.Response:
        return _json(self._log.shown(request.query.get("audience")))

    async def _clear_requests(self, request: web.Request) -> web.Response:
        del request
        self._log.clear()
        return _json({"success": True})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            return _json({"id": self._faults.add(await _read_model(request, FaultRule))})
        except ValueError as error:
            return _refusal(str(error))

    async def _list_faults(self, request: web.Request) -> web.Response:
        del request
        return _json(list(self._faults.shown()))

    async def _clear_faults(self, request: web.Request) -> web.Response:
        del request
        return _json({"removed": self._faults.clear()})

    async def _remove_fault(self, request: web.Request) -> web.Response:
        if self._faults.remove(request.match_info["id"]):
            return _json({"removed": 1})
        return _refusal(f"there is no fault {request.match_info['id']}; see /_sandbox/faults", 404)

    async def _advance_clock(self, request: web.Request) -> web.Response:
        try:
            self._clock.advance((await _read_model(request, ClockAdvance)).advance_seconds)
        except OverflowError:
            return _refusal("advance_seconds: the calendar ends before that")
        except ValueError as error:
            return _refusal(str(error))
        return _json({"now": self._clock.text(), "advanced_seconds": self._clock.advanced_seconds})

    async def _show_switches(self, request: web.Request) -> web.Response:
        del request
        return _json(shown(self._api.options))

    async def _switch(self, request: web.Request) -> web.Response:
        try:
            switches = await _read_model(request, Switches)
        except ValueError as error:
            return _refusal(str(error))
        self._api.use(switches.applied(self._api.options))
        return _json(shown(self._api.options))

    async def _nothing(self, request: web.Request) -> web.Response:
        return _refusal(f"{request.method} {request.path} is no inspection route", 404)


def add_routes(
    application: web.Application, state: SandboxState, options: SandboxOptions, clock: SandboxClock
) -> None:
    faults, log = Faults(), RequestLog(options)
    api = GraphApi(state, options, clock)
    application.add_routes(Inspection(api, state, faults, log, clock).routes())
    graph = GraphRoute(api, faults, log, clock)
    application.add_routes([web.route("*", r"/{path:[\s\S]*}", graph.handle)])


async def _read_model(request: web.Request, model: type[Model]) -> Model:
    """Raises ValueError with a text that says what is wrong where."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise ValueError("the body is no valid JSON") from None
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - the text is what the caller shows
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ValueError(_explained(error)) from None


def _explained(error: ValidationError) -> str:
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in error.errors()
    )


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", charset="UTF-8"
    )


def _refusal(text: str, status: int = 400) -> web.Response:
    return _json({"error": text}, status)


async def _in_pieces(
    request: web.Request, response: web.Response, outcome: Outcome, logged: LoggedRequest
) -> web.StreamResponse:
    """The answer's body as slowly as ordered, and no more of it than ordered."""
    body = response.body if isinstance(response.body, bytes) else b""
    end = len(body) if outcome.cut_at is None else min(outcome.cut_at, len(body))
    streamed = web.StreamResponse(status=response.status, headers=response.headers)
    streamed.content_length = len(body)
    await streamed.prepare(request)
    step = max(1, -(-end // _PIECES))
    for start in range(0, end, step):
        await asyncio.sleep(outcome.slow_seconds / _PIECES)
        await streamed.write(body[start : min(start + step, end)])
    if outcome.cut_at is not None:
        # Closed, not aborted: what has been written still goes out.
        if request.transport is not None:
            request.transport.close()
        return streamed
    logged.status = response.status
    await streamed.write_eof()
    return streamed


def _ordered(respond: Respond, trace: str) -> web.Response:
    """A text is sent as it is, so that broken JSON and HTML can be ordered; anything else as JSON."""
    if respond.code is not None:
        error = ordered_error(respond.code, respond.subcode, respond.message, respond.status)
        response = _json(error.envelope(trace, is_transient=respond.is_transient), error.http_status)
        response.headers["x-fb-request-id"] = trace
        response.headers["WWW-Authenticate"] = error.challenge()
        return response
    body, status = respond.body, respond.status or 200
    if body is None:
        return web.Response(status=status)
    if not isinstance(body, str):
        return _json(body, status)
    kind = "text/html" if body.lstrip().startswith("<") else "application/json"
    headers: Mapping[str, str] = {"Content-Type": f"{kind}; charset=UTF-8"}
    return web.Response(body=body.encode(), status=status, headers=headers)


def _cut(request: web.Request) -> web.Response:
    """Close the connection without an answer; the response returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _new_trace() -> str:
    return "A" + secrets.token_urlsafe(16)
