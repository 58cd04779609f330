"""Faults that a test orders: which requests they meet, and what those get instead of, or beside, their answer."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.sandbox.usage import Usage

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


class Happens(_Strict):
    """What is so from the request on that meets it: for its ad account, its access token and its audience."""

    terms_accepted: bool | None = None
    token_expired: bool | None = None
    audience_deleted: bool | None = None
    flagged: list[str] | None = None
    """The fields of the audience that Meta's integrity policy objects to; none of them: it is cleared."""


class Used(_Strict):
    """What the usage headers say: each request that is met has the next of `percent`, the last one stays."""

    percent: Annotated[list[float], Field(min_length=1, max_length=1000)]
    minutes_to_regain_access: int = Field(default=0, ge=0)
    reset_seconds: int = Field(default=0, ge=0)

    def at(self, place: int) -> Usage:
        percent = self.percent[min(place, len(self.percent) - 1)]
        return Usage(
            call_count=math.ceil(percent),
            account_percent=percent,
            minutes_to_regain_access=self.minutes_to_regain_access,
            reset_seconds=self.reset_seconds,
        )


class Respond(_Strict):
    """What a request gets.

    A `status` answers in place of the API, with `body`, or with the error that `code`, `subcode` and `message` name;
    a `code` alone has the status it is known with. `drop` cuts the connection before or after the request is applied
    and wins over `status`. Without any of these the API answers: `invalid` has it refuse the rows that the fault is
    for, `happens` is so before it does.

    Of every answer `headers` are added, `usage` is what its usage headers say, `delay_ms` delays it, `slow_ms` is how
    long its body takes, and `cut_at` is how many bytes of it come before the connection is cut.
    """

    status: int | None = Field(default=None, ge=200, le=599)
    body: Any = None
    code: int | None = None
    subcode: int | None = None
    message: str | None = None
    is_transient: bool = False
    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    delay_ms: int | None = Field(default=None, ge=0, le=600_000)
    slow_ms: int | None = Field(default=None, ge=0, le=600_000)
    cut_at: int | None = Field(default=None, ge=0)
    drop: Literal["before", "after"] | None = None
    usage: Used | None = None
    invalid: Annotated[str, Field(min_length=1)] | None = None
    happens: Happens | None = None

    @property
    def answers(self) -> bool:
        """In place of the API."""
        return self.status is not None or self.code is not None

    @model_validator(mode="after")
    def _does_something(self) -> Respond:
        if self.status is None and self.drop is None and self.body is not None:
            raise ValueError("a body needs a status")
        if self.code is not None and self.body is not None:
            raise ValueError("give a body or a code, not both")
        if self.code is None and (self.subcode is not None or self.message is not None):
            raise ValueError("a subcode or a message needs a code")
        given = (self.delay_ms, self.slow_ms, self.cut_at, self.usage, self.invalid, self.happens)
        if not (self.answers or self.drop or self.headers) and all(one is None for one in given):
            raise ValueError(
                "give at least one of status, code, drop, headers, delay_ms, slow_ms, cut_at, usage, invalid and happens"
            )
        return self


class FaultRule(_Strict):
    """`skip` requests that fit pass first; then `times` of them are met, all of them when it is null."""

    method: str | None = None
    account: str | None = None
    """The ad account that the request is about, by itself or by one of its audiences."""
    path: Annotated[str, AfterValidator(_pattern)] | None = None
    audience: str | None = None
    row: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    skip: int = Field(default=0, ge=0)
    times: int | None = Field(default=None, ge=1)
    respond: Respond

    @model_validator(mode="after")
    def _names_rows(self) -> FaultRule:
        if self.respond.invalid is not None and self.row is None:
            raise ValueError("respond.invalid needs the row that is invalid")
        return self

    def fits(self, call: Call, account: str | None) -> bool:
        return (
            (self.method is None or self.method.upper() == call.method)
            and (self.account is None or self.account == account)
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

    def meets(self, call: Call, account: str | None) -> bool:
        """Whether this request gets the fault; counts it."""
        if self.rule.times is not None and self.met >= self.rule.times:
            return False
        if not self.rule.fits(call, account):
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
    slow_seconds: float = 0.0
    cut_at: int | None = None
    usage: Usage | None = None
    happens: list[Happens] = field(default_factory=list)

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

    def outcome(self, call: Call, account: str | None) -> Outcome:
        """`account`: the ad account that the call is about. Rows that are to be refused are noted with the call."""
        outcome = Outcome()
        for fault in self._faults.values():
            if not fault.meets(call, account):
                continue
            respond = fault.rule.respond
            outcome.delay_seconds += (respond.delay_ms or 0) / 1000
            outcome.slow_seconds += (respond.slow_ms or 0) / 1000
            outcome.headers |= respond.headers or {}
            if respond.cut_at is not None:
                outcome.cut_at = respond.cut_at
            if respond.usage is not None:
                outcome.usage = respond.usage.at(fault.met - 1)
            if respond.happens is not None:
                outcome.happens.append(respond.happens)
            if respond.invalid is not None and fault.rule.row is not None:
                call.refused_rows.append((fault.rule.row, respond.invalid))
            if respond.answers or respond.drop is not None:
                outcome.answer = respond
                break
        return outcome
