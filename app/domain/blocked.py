"""Blocked identifiers: values that stand for nobody, or for everybody, and so identify no one.

A user id `null`, or one of a shared device, would make one person of all who send it. A blocked value is as absent where
it is decided whom a call is about and what belongs together; it stays in the call.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from app.domain.normalization import Normalized, normalize_email
from app.domain.profile_ids import ANONYMOUS, USER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.segment import SegmentEvent

# Stands for the values that Segment suggests to block.
SUGGESTED: Final = "suggested"
_SUGGESTED_VALUES: Final = frozenset({"-1", "null", "anonymous"})
# Zeros and hyphens alone, as of a device id that was never set.
_SUGGESTED_PATTERN: Final = re.compile(r"[0-]*")


class BlockedIdentifiers:
    """`values` are user ids, anonymous ids, mobile advertising ids and e-mail addresses as they come; SUGGESTED is
    those that Segment suggests. Only a whole value is blocked; e-mail addresses and advertising ids however they are
    written.

    `seen` counts the blocked values since somebody has last set it to 0.
    """

    __slots__ = ("_contacts", "_suggested", "_values", "seen")

    def __init__(self, values: Iterable[str]) -> None:
        given = {value.strip() for value in values} - {""}
        self._suggested = SUGGESTED in given
        given.discard(SUGGESTED)
        self._values = frozenset(given | _SUGGESTED_VALUES if self._suggested else given)
        emails = (normalize_email(value) for value in given if "@" in value)
        self._contacts = frozenset(value.lower() for value in given) | {
            str(email.value) for email in emails if isinstance(email, Normalized)
        }
        self.seen = 0

    def without(self, call: SegmentEvent) -> SegmentEvent:
        """The call without its blocked user id and anonymous id."""
        user_id, anonymous_id = call.user_id, call.anonymous_id
        no_user, no_anonymous = self._is_blocked(user_id), self._is_blocked(anonymous_id)
        if not no_user and not no_anonymous:
            return call
        self.seen += no_user + no_anonymous
        return replace(
            call,
            user_id=None if no_user else user_id,
            anonymous_id=None if no_anonymous else anonymous_id,
        )

    def profile(self, profile: str | None) -> str | None:
        """The profile that a row of a warehouse names, None for a blocked one."""
        if profile is None or not self._is_blocked(profile.removeprefix(USER).removeprefix(ANONYMOUS)):
            return profile
        self.seen += 1
        return None

    def contacts(self, values: Sequence[object]) -> list[object]:
        """Those of these hashed e-mail addresses, or advertising ids, that are not blocked."""
        allowed = [value for value in values if value not in self._contacts]
        self.seen += len(values) - len(allowed)
        return allowed

    def _is_blocked(self, value: str | None) -> bool:
        if not value or value.isspace():
            return False
        if value in self._values:
            return True
        return self._suggested and _SUGGESTED_PATTERN.fullmatch(value) is not None
