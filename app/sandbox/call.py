"""Reads one HTTP request into what was asked: version, path, parameters and token, wherever they came from.

Parameters may come as a JSON body, a form, a multipart form or in the query; a body wins over the query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp.http import HttpProcessingError

from app.sandbox.errors import GraphError, invalid_parameter
from app.sandbox.values import opened

if TYPE_CHECKING:
    from aiohttp import web

_VERSION = re.compile(r"v\d+\.\d+").fullmatch
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_ACTIONS = frozenset({"GET", "POST", "DELETE"})
PEOPLE_PARAMETERS = ("payload", "session")


@dataclass(slots=True)
class Call:
    """`served_version` is set when it is answered; `refused_rows` are invalid because a test wants them to be.

    `problem` is why the body could not be read; the call is then known by its path and query alone.
    """

    method: str
    url: str
    path: str
    version: str | None
    segments: tuple[str, ...]
    query: dict[str, str]
    body: dict[str, Any] | None = None
    bearer: str | None = field(default=None, repr=False)
    problem: GraphError | None = None
    served_version: str | None = None
    refused_rows: list[tuple[Mapping[str, Any], str]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def action(self) -> str:
        """The method that is meant: a POST may name another one in `method`."""
        override = self.parameters.get("method")
        if self.method == "POST" and isinstance(override, str) and override.upper() in _ACTIONS:
            return override.upper()
        return self.method

    @property
    def edge(self) -> str:
        return self.segments[1] if len(self.segments) > 1 else ""

    @property
    def subject(self) -> str | None:
        """The id of the object the path is about."""
        return self.segments[0] if self.segments else None

    @property
    def token(self) -> str | None:
        sent = self.parameters.get("access_token")
        return sent if isinstance(sent, str) and sent else self.bearer

    @property
    def upload(self) -> tuple[list[Any], list[Any]]:
        """Schema keys and rows of the payload, whatever their worth: for counting and for picking out requests."""
        payload = self.parameters.get("payload")
        if not isinstance(payload, dict):
            return [], []
        schema, data = payload.get("schema"), payload.get("data")
        keys = schema if isinstance(schema, list) else [schema]
        return keys, data if isinstance(data, list) else []

    def holds_row(self, wanted: Mapping[str, Any]) -> bool:
        """Whether some row has all these cells."""
        keys, rows = self.upload
        if not all(key in keys for key in wanted):
            return False
        cells = [(keys.index(key), value) for key, value in wanted.items()]
        for row in rows:
            sent = row if isinstance(row, list) else [row]
            if all(place < len(sent) and sent[place] == value for place, value in cells):
                return True
        return False


async def read_call(request: web.Request) -> Call:
    """Never refuses: what is wrong with the body is kept as the call's `problem`."""
    segments = [part for part in request.path.split("/") if part]
    version = segments.pop(0) if segments and _VERSION(segments[0]) else None
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    call = Call(
        method=request.method,
        url=str(request.url.with_query(None)),
        path=request.path,
        version=version,
        segments=tuple(segments),
        query=dict(request.query),
        bearer=credentials.strip() if scheme.lower() == "bearer" else None,
    )
    try:
        call.body = await _read_body(request)
    except GraphError as problem:
        call.problem = problem
    call.parameters = {**call.query, **(call.body or {})}
    for name in PEOPLE_PARAMETERS:
        if name in call.parameters:
            call.parameters[name] = opened(call.parameters[name])
    return call


async def _read_body(request: web.Request) -> dict[str, Any] | None:
    if not request.body_exists or request.method == "GET":
        return None
    if request.content_type in _FORMS:
        try:
            form = await request.post()
        except (ValueError, LookupError, HttpProcessingError) as error:
            raise invalid_parameter("The body is no readable form") from error
        return {name: value for name, value in form.items() if isinstance(value, str)}
    content = await request.read()
    if not content:
        return None
    if request.content_type != "application/json":
        raise invalid_parameter(f"Content type {request.content_type} cannot be read: send JSON or a form")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise invalid_parameter("The body is no valid JSON") from error
    if not isinstance(body, dict):
        raise invalid_parameter("The body must be a JSON object")
    return body
