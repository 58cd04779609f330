"""Profile ids: what a profile is keyed by, and the names it goes by elsewhere.

A user id is its own profile id. Every other form has a prefix, and so has a user id that would read as one of
them, or that begins with the NUL of the reserved keys of a state table. An id that is an e-mail address or a
phone number by its looks would put personal data into every topic: it is replaced by its SHA-256 first.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANONYMOUS: Final = "anonymous_id:"
USER: Final = "user_id:"
_PREFIXES: Final = (ANONYMOUS, USER, "group_id:", "\x00")
_PHONE: Final = re.compile(r"\+[0-9]{7,15}")


def profile_id_of(user_id: str | None, anonymous_id: str | None) -> str | None:
    """The profile a call belongs to; a missing or blank id counts as none, and None is: neither is there."""
    if user_id and not user_id.isspace():
        if "@" in user_id or user_id[0] == "+":
            user_id = _without_personal_data(user_id)
        return USER + user_id if user_id.startswith(_PREFIXES) else user_id
    if anonymous_id and not anonymous_id.isspace():
        return ANONYMOUS + _without_personal_data(anonymous_id)
    return None


def external_id_of(profile: str) -> str | None:
    """The user id as it is sent, EXTERN_ID; None for a profile without one."""
    if profile.startswith(ANONYMOUS):
        return None
    return profile.removeprefix(USER)


def display_name(profile: str, identifiers: Mapping[str, object]) -> str:
    """How results name a profile: its user id, else `email:SHA256`, else its anonymous id."""
    user_id = external_id_of(profile)
    if user_id is not None:
        return user_id
    email = identifiers.get("EMAIL")
    return f"email:{email}" if email else profile.removeprefix(ANONYMOUS)


def _without_personal_data(identifier: str) -> str:
    if "@" in identifier or _PHONE.fullmatch(identifier):
        return hashlib.sha256(identifier.encode()).hexdigest()
    return identifier
