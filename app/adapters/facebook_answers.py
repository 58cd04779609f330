"""Reads what the Graph API answers: bytes and headers in, checked values or GraphRefusal out. No network here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from app.domain.delivery import AnswerKind, GraphRefusal, Refusal, UsageMeter
from app.domain.delivery_errors import Scope
from schemas.facebook import ErrorObject

_Model = TypeVar("_Model", bound=BaseModel)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
# Meta's own error texts quote access tokens: "Malformed access token EAA...".
_TOKEN_LIKE = re.compile(r"EAA[A-Za-z0-9]{16,}|EAA[A-Za-z0-9]*$")
# The first signs of a secret that say nothing.
_FEW_SIGNS = 3
# A proof of the app's secret, wherever a text quotes the call.
_PROOF = re.compile(r"(appsecret_proof\W{1,9})[0-9a-fA-F]{64}")
_PLAIN = re.compile(r"[\x20-\x7e]{1,300}")
_MOST_METERS = 64


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer as it came, but for the names of its headers: they are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class AnswerReader:
    """`secrets` are struck out of every text that is passed on."""

    def __init__(self, secrets: Callable[[], tuple[str, ...]]) -> None:
        self._secrets = secrets

    def read(self, answer: RawAnswer, model: type[_Model]) -> tuple[_Model, tuple[UsageMeter, ...]]:
        """The answer as `model`. Raises GraphRefusal for an error, no JSON object, or a form that is not the model's."""
        usage = read_usage(answer.headers)
        try:
            body = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise GraphRefusal(Refusal(AnswerKind.NO_JSON, answer.status, usage=usage))
        if "error" in body:
            raise GraphRefusal(self._refusal(answer.status, body["error"], usage))
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise malformed(answer.status, "no error object", usage)
        if body.get("success") is False:
            raise GraphRefusal(Refusal(AnswerKind.NOT_SUCCESS, answer.status, usage=usage))
        try:
            return model.model_validate(body), usage
        except ValidationError as exc:
            problem = exc.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])[:100]
            raise malformed(answer.status, self._clean(f"{where}: {problem['msg']}"), usage) from None

    def _refusal(self, status: int, error: Any, usage: tuple[UsageMeter, ...]) -> Refusal:
        """The error object; a mere text in its place, as OAuth endpoints send it, is its message."""
        if isinstance(error, str):
            error = {"message": error}
        found = ErrorObject.model_validate(error if isinstance(error, dict) else {})
        return Refusal(
            kind=AnswerKind.ERROR,
            http_status=status,
            code=found.code,
            subcode=found.error_subcode,
            message=self._clean(found.message),
            type=self._clean(found.type),
            is_transient=found.is_transient,
            user_title=self._clean(found.error_user_title),
            trace=self._clean(found.fbtrace_id),
            usage=usage,
        )

    def _clean(self, text: str | None) -> str | None:
        if text is None:
            return None
        text = _CONTROL.sub(" ", text)
        for secret in self._secrets():
            text = text.replace(secret, "***")
            text = _without_beginning(text, secret)
        return _PROOF.sub(r"\1***", _TOKEN_LIKE.sub("***", text))


def _without_beginning(text: str, secret: str) -> str:
    """Without what the text ends in of the secret: Meta's texts are cut off when they are long."""
    for length in range(len(secret) - 1, _FEW_SIGNS, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + "***"
    return text


def malformed(status: int, problem: str | None, usage: tuple[UsageMeter, ...] = ()) -> GraphRefusal:
    return GraphRefusal(Refusal(AnswerKind.MALFORMED, status, message=problem, usage=usage))


def header_text(headers: Mapping[str, str], name: str) -> str | None:
    """A short header of plain signs; None when it is absent or anything else. `name` in lower case."""
    text = headers.get(name)
    return text if text is not None and _PLAIN.fullmatch(text) else None


def read_usage(headers: Mapping[str, str]) -> tuple[UsageMeter, ...]:
    """The three usage headers, as far as they can be read; figures are percent, and may exceed 100."""
    meters: list[UsageMeter] = []
    app = _object(headers.get("x-app-usage"))
    if app:
        meters.append(UsageMeter(Scope.APP, _percent(app)))
    account = _object(headers.get("x-ad-account-usage"))
    if account:
        percent = _number(account.get("acc_id_util_pct"))
        meters.append(UsageMeter(Scope.AD_ACCOUNT, percent, _number(account.get("reset_time_duration"))))
    for number, use_cases in _object(headers.get("x-business-use-case-usage")).items():
        for use_case in use_cases if isinstance(use_cases, list) else ():
            if isinstance(use_case, dict):
                seconds = _number(use_case.get("estimated_time_to_regain_access")) * 60
                meters.append(UsageMeter(Scope.AD_ACCOUNT, _percent(use_case), seconds, number))
    return tuple(meters[:_MOST_METERS])


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _percent(meter: Mapping[str, Any]) -> float:
    return max(_number(meter.get(name)) for name in ("call_count", "total_cputime", "total_time"))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return max(0.0, float(value))
