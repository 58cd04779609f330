"""What stands before every call beside its token: the API's version, and the proof that the caller has the app's
secret.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from app.sandbox import errors

if TYPE_CHECKING:
    from app.sandbox.call import Call
    from app.sandbox.options import SandboxOptions

PROOF_SECONDS = 300
"""A timed proof is good for five minutes."""

_MOST_DIGITS = 12
"""Of an instant in seconds."""


def served_version(asked: str | None, options: SandboxOptions) -> str:
    """The version that answers: another than the one asked for where that has ended and the next stands in for it.

    Raises GraphError.
    """
    if asked is None:
        raise errors.no_version()
    if options.versions is not None and asked not in options.versions | options.ended_versions:
        raise errors.ended_version(asked)
    if asked not in options.ended_versions:
        return asked
    later = [
        version
        for version in (options.versions or frozenset()) - options.ended_versions
        if _number(version) > _number(asked)
    ]
    if options.ended_version == "refuse" or not later:
        raise errors.ended_version(asked)
    return min(later, key=_number)


def upgrade_warning(asked: str, served: str) -> str:
    """The text of X-Ad-Api-Version-Warning."""
    return f"The call has been auto-upgraded to {served} as {asked} has been deprecated"


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.removeprefix("v").partition(".")
    return int(major), int(minor)


def check_proof(call: Call, options: SandboxOptions, now: float) -> None:
    """In both forms that clients know. Raises GraphError when it is wrong, too old, or missing and asked for."""
    if options.app_secret is None:
        return
    sent = call.parameters.get("appsecret_proof")
    if not sent:
        if options.require_proof:
            raise errors.proof_required()
        return
    message = call.token or ""
    instant = call.parameters.get("appsecret_time")
    if instant is not None:
        seconds = _seconds(instant)
        if seconds is None or now - seconds > PROOF_SECONDS:
            raise errors.wrong_proof()
        message = f"{message}|{seconds}"
    right = hmac.new(options.app_secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), right.encode()):
        raise errors.wrong_proof()


def _seconds(value: object) -> int | None:
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        return None
    return int(text)
