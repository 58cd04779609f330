"""Faults that a test orders: which requests they meet, and what those get instead of, or beside, their answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.sandbox.call import Call

MAX_FAULTS = 1000
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, text in headers.items():
        if not _HEADER_NAME(name) or not _HEADER_TEXT(text):
            raise ValueError(
                f"header {name!r} cannot be sent: its name or its text holds other than plain signs"
            )
        if name.lower() in _FRAMING:
            raise ValueError(f"header {name!r} is the server's own")
    return headers


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Respond(_Strict):
    """What a request gets.

    A `status` answers in place of the API; `drop` cuts the connection before or after the request is applied
    and wins over `status`. Without either, `headers` are added to the API's answer and
    `delay_ms` only delays it.
    """

    status: int | None = Field(default=None, ge=200, le=599)
    body: Any = None
    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    delay_ms: int | None = Field(default=None, ge=0, le=600_000)
    drop: Literal["before", "after"] | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Respond:
        if self.status is None and self.drop is None:
            if self.body is not None:
                raise ValueError("a body needs a status")
            if not self.headers and self.delay_ms is None:
                raise ValueError("give at least one of status, drop, headers and delay_ms")
        return self


class FaultRule(_Strict):
    """`skip` requests that fit pass first; then `times` of them are met, all of them when it is null."""

    method: str | None = None
    path: Annotated[str, AfterValidator(_pattern)] | None = None
    audience: str | None = None
    row: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    skip: int = Field(default=0, ge=0)
    times: int | None = Field(default=None, ge=1)
    respond: Respond

    def fits(self, call: Call) -> bool:
        return (
            (self.method is None or self.method.upper() == call.method)
            and (self.path is None or re.search(self.path, call.path) is not None)
            and (self.audience is None or self.audience == call.subject)
            and (self.row is None or call.holds_row(self.row))
        )


@dataclass(slots=True)
class _Fault:
    id: str
    rule: FaultRule
    fitted: int = 0
    met: int = 0

    def meets(self, call: Call) -> bool:
        """Whether this request gets the fault; counts it."""
        if self.rule.times is not None and self.met >= self.rule.times:
            return False
        if not self.rule.fits(call):
            return False
        self.fitted += 1
        if self.fitted <= self.rule.skip:
            return False
        self.met += 1
        return True


@dataclass(slots=True)
class Outcome:
    """What the faults make of one request; `answer` is None when the API answers it after all."""

    delay_seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    answer: Respond | None = None

    @property
    def drop(self) -> str | None:
        return self.answer.drop if self.answer else None


class Faults:
    """In the order they were posted: the first that answers or drops ends the search, others add up."""

    def __init__(self) -> None:
        self._faults: dict[str, _Fault] = {}
        self._last_id = 0

    def add(self, rule: FaultRule) -> str:
        """Its id. Raises ValueError when there are too many."""
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"there are {MAX_FAULTS} faults already; delete some")
        self._last_id += 1
        fault = _Fault(str(self._last_id), rule)
        self._faults[fault.id] = fault
        return fault.id

    def remove(self, fault_id: str) -> bool:
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> int:
        removed = len(self._faults)
        self._faults.clear()
        return removed

    def shown(self) -> Iterable[dict[str, Any]]:
        """As posted, with how many requests have fitted and how many have met the fault."""
        for fault in self._faults.values():
            yield {"id": fault.id, **fault.rule.model_dump(), "fitted": fault.fitted, "met": fault.met}

    def outcome(self, call: Call) -> Outcome:
        outcome = Outcome()
        for fault in self._faults.values():
            if not fault.meets(call):
                continue
            respond = fault.rule.respond
            outcome.delay_seconds += (respond.delay_ms or 0) / 1000
            outcome.headers |= respond.headers or {}
            if respond.status is not None or respond.drop is not None:
                outcome.answer = respond
                break
        return outcome
