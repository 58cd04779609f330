"""Decides what an answer of Facebook means for delivery. Pure: instants, randomness and answers come as arguments.

    GraphRefusal    (AudienceSyncError)  Facebook answered with an error; `classify` says what to do about it
    NotSentError    (UnreachableError)   the connection was never made, so nothing can have been applied
    UnreachableError                     no answer: the call may or may not have been applied

A refused row inside a successful answer is data, not an exception (`app.ports.UsersAnswer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus

from app.domain.delivery_errors import BACK_OFF, ERROR_ROWS, ErrorRow, Reaction, Scope, Wait
from app.errors import AudienceSyncError, UnreachableError

# Percent of an allowance: from the first one calls are spread out, at the second they stop.
USAGE_SLOW = 75.0
USAGE_STOP = 95.0
# Seconds between two calls of a scope just below USAGE_STOP.
_SLOWEST_PACE = 60.0
# Seconds to stay away at USAGE_STOP when the answer names no wait.
_USAGE_STOP_WAIT = 60.0
# A wait that an answer names is believed up to here, in seconds.
_LONGEST_NAMED_WAIT = 6 * 3600.0
# Meta: stay away at least this long when told to; less where the limit itself is one of seconds.
_SHORTEST_NAMED_WAIT = 60.0
_WORDS_SHOWN = 500


class AnswerKind(StrEnum):
    """In which way an answer is not a success."""

    ERROR = "error"
    NO_JSON = "no_json"
    MALFORMED = "malformed"
    NOT_SUCCESS = "not_success"


@dataclass(frozen=True, slots=True)
class UsageMeter:
    """How much of an allowance is used up, as the answer's headers say.

    `account` is Meta's number of the business object, without act_; None: the ad account that the call was about.
    `wait_seconds` until access is regained; 0 when nothing was said.
    """

    scope: Scope
    percent: float
    wait_seconds: float = 0.0
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error, in Facebook's own words; `message` never holds a secret."""

    kind: AnswerKind = AnswerKind.ERROR
    http_status: int = 400
    code: int | None = None
    subcode: int | None = None
    message: str | None = None
    type: str | None = None
    is_transient: bool | None = None
    user_title: str | None = None
    trace: str | None = None
    usage: tuple[UsageMeter, ...] = ()


class GraphRefusal(AudienceSyncError):  # noqa: N818 - Facebook refuses; nothing of ours is in error
    """Facebook answered, and the answer is an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(words(refusal))
        self.refusal = refusal


class NotSentError(UnreachableError):
    """No connection came about: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`wait` of retries and throttles; `instruction` where a person has to do something; `known` False: nobody has
    described the error, and the reaction is what is safe.
    """

    reaction: Reaction
    scope: Scope
    wait: Wait | None = None
    instruction: str | None = None
    known: bool = True


RETRY = Decision(Reaction.RETRY, Scope.REQUEST, BACK_OFF)
# Code and subcode of an object that is not there, or that the token has no right to.
NO_SUCH_OBJECT = (100, 33)
_SERVICE_UNAVAILABLE = 2
# The same, where not even the ad account can be read.
OUT_OF_REACH = Decision(
    Reaction.AUTH_OR_TERMS,
    Scope.AD_ACCOUNT,
    instruction="The token cannot read the ad account either: assign ad account {account} to its system user.",
)
_REQUEST_ERROR = Decision(Reaction.REQUEST_ERROR, Scope.REQUEST)
_TOO_MANY_REQUESTS = Decision(Reaction.THROTTLE, Scope.TOKEN, Wait(300, 3600))
_WITH_TEXT: dict[int, list[ErrorRow]] = {}
_EXACT: dict[tuple[int, int | None], ErrorRow] = {}
for _row in ERROR_ROWS:
    if _row.text is not None:
        _WITH_TEXT.setdefault(_row.code, []).append(_row)
    else:
        _EXACT[_row.code, _row.subcode] = _row


def classify(refusal: Refusal) -> Decision:
    """The most specific row wins: text and code, code and subcode, code alone, the family 200-299, then hints."""
    if refusal.kind is AnswerKind.NOT_SUCCESS:
        return _REQUEST_ERROR
    if refusal.kind is not AnswerKind.ERROR:
        return _TOO_MANY_REQUESTS if refusal.http_status == HTTPStatus.TOO_MANY_REQUESTS else RETRY
    if refusal.code is not None and refusal.code < 0:
        # Internal errors of Meta: the subcode carries the code that is meant.
        row = _row_of(replace(refusal, code=refusal.subcode, subcode=None))
        return _decision(row) if row else replace(RETRY, known=False)
    row = _row_of(refusal)
    if row is not None:
        return _decision(row)
    return replace(_by_hints(refusal), known=False)


def may_be_the_rows(refusal: Refusal) -> bool:
    """Whether an answer that says to come again may be owed to what was sent: to its size, or to a row that Facebook
    stumbles over. Not so where a service, an audience or an ad account is said to be busy.
    """
    decision = classify(refusal)
    if decision.reaction is not Reaction.RETRY or decision.scope is not Scope.REQUEST:
        return False
    is_servers = refusal.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return refusal.code != _SERVICE_UNAVAILABLE or is_servers


def _by_hints(refusal: Refusal) -> Decision:
    if refusal.is_transient:
        return RETRY
    if refusal.http_status == HTTPStatus.TOO_MANY_REQUESTS:
        return _TOO_MANY_REQUESTS
    return RETRY if refusal.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR else _REQUEST_ERROR


def _row_of(refusal: Refusal) -> ErrorRow | None:
    code = refusal.code
    if code is None:
        return None
    for row in _WITH_TEXT.get(code, ()):
        if row.text and row.text.search(refusal.message or "") and row.subcode in (None, refusal.subcode):
            return row
    found = _EXACT.get((code, refusal.subcode)) or _EXACT.get((code, None))
    if found is None and 200 <= code <= 299:  # noqa: PLR2004 - Meta's family of permission errors
        return _EXACT[200, None]
    return found


def _decision(row: ErrorRow) -> Decision:
    return Decision(row.reaction, row.scope, row.wait, row.instruction)


def back_off(wait: Wait, failures: int, draw: float) -> float:
    """Seconds before try `failures` + 1: full jitter above the floor; `draw` is random, 0 <= draw < 1."""
    ceiling = min(wait.longest, wait.first * 2.0 ** min(failures, 30))
    return wait.first + (ceiling - wait.first) * draw


def throttle_wait(decision: Decision, usage: Sequence[UsageMeter], strikes: int, draw: float) -> float:
    """Seconds the scope stays closed: what the answer named, else the table's, doubling with each strike.

    `strikes` are the refusals in a row before this one. A tenth of jitter is added, never taken away.
    """
    named = max((meter.wait_seconds for meter in usage if meter.scope is decision.scope), default=0.0)
    wait = decision.wait or BACK_OFF
    if named > 0:
        shortest = min(_SHORTEST_NAMED_WAIT, wait.first)
        seconds = min(max(named, shortest), _LONGEST_NAMED_WAIT)
    else:
        seconds = min(wait.longest, wait.first * 2.0 ** min(strikes, 30))
    return seconds * (1 + draw / 10)


def pace(usage: Sequence[UsageMeter], scope: Scope) -> float:
    """Seconds that a scope should rest after a successful call, so as not to run into its limit."""
    meters = [meter for meter in usage if meter.scope is scope]
    percent = max((meter.percent for meter in meters), default=0.0)
    if percent < USAGE_SLOW:
        return 0.0
    if percent < USAGE_STOP:
        return _SLOWEST_PACE * (percent - USAGE_SLOW) / (USAGE_STOP - USAGE_SLOW)
    named = max(meter.wait_seconds for meter in meters)
    return min(named or _USAGE_STOP_WAIT, _LONGEST_NAMED_WAIT)


def usage_of(usage: Sequence[UsageMeter], ad_account_id: str) -> tuple[UsageMeter, ...]:
    """The meters that speak of this ad account and of the app.

    One header may list several business objects. Where one of them is the account itself the others are not its
    concern; where none is, Meta named a parent and all count.
    """
    number = ad_account_id.removeprefix("act_")
    own = any(meter.account == number for meter in usage)
    return tuple(meter for meter in usage if meter.account is None or meter.account == number or not own)


def words(refusal: Refusal) -> str:
    """Facebook's answer in one line: code, message, trace."""
    if refusal.kind is AnswerKind.NO_JSON:
        return f"Facebook answered HTTP {refusal.http_status} without a JSON object"
    if refusal.kind is AnswerKind.MALFORMED:
        return f"Facebook's answer (HTTP {refusal.http_status}) has an unknown form: {refusal.message}"
    if refusal.kind is AnswerKind.NOT_SUCCESS:
        return f"Facebook answered HTTP {refusal.http_status} with success false"
    code = "no code" if refusal.code is None else str(refusal.code)
    if refusal.subcode is not None:
        code += f"/{refusal.subcode}"
    message = (refusal.message or "no message").removeprefix(f"(#{refusal.code}) ")[:_WORDS_SHOWN]
    title = f"{refusal.user_title[:_WORDS_SHOWN]}: " if refusal.user_title else ""
    trace = f", trace {refusal.trace}" if refusal.trace else ""
    return f"Facebook refused ({code}{trace}): {title}{message}"


def reason(refusal: Refusal, decision: Decision, ad_account_id: str | None) -> str:
    """What a person reads beside a destination that waits: Facebook's words and what to do about them."""
    text = words(refusal)
    if decision.instruction is None:
        return text
    account = (ad_account_id or "").removeprefix("act_")
    return f"{text} | {decision.instruction.replace('{account}', account)}"
