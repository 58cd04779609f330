"""Profile ids: what a profile is keyed by, and the names it goes by elsewhere.

Each identifier of a person is a profile id, and so is an account. A user id is its own. Every other form has a
prefix, and so has a user id that would read as one of them, or that begins with the NUL of the reserved keys of a
state table. An id that is an e-mail address or a phone number by its looks would put personal data into every topic:
it is replaced by its SHA-256 first.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANONYMOUS: Final = "anonymous_id:"
USER: Final = "user_id:"
EMAIL: Final = "email:"
MOBILE: Final = "madid:"
ACCOUNT: Final = "group_id:"
# Of the profile ids of people.
PREFIXES: Final = (ANONYMOUS, USER, EMAIL, MOBILE)
_PREFIXES: Final = (*PREFIXES, ACCOUNT, "\x00")
# What a profile without a user id begins with.
WITHOUT_USER: Final = (EMAIL, ANONYMOUS, MOBILE)
_NOT_SENT: Final = (*WITHOUT_USER, ACCOUNT)
_PHONE: Final = re.compile(r"\+[0-9]{7,15}")


def profile_id_of(user_id: str | None, anonymous_id: str | None) -> str | None:
    """The profile of these two; a missing or blank id counts as none, and None is: neither is there."""
    return user_profile(user_id) or anonymous_profile(anonymous_id)


def user_profile(user_id: str | None) -> str | None:
    """None for an id that is missing or blank."""
    if not user_id or user_id.isspace():
        return None
    if "@" in user_id or user_id[0] == "+":
        user_id = _without_personal_data(user_id)
    return USER + user_id if user_id.startswith(_PREFIXES) else user_id


def anonymous_profile(anonymous_id: str | None) -> str | None:
    """None for an id that is missing or blank."""
    if not anonymous_id or anonymous_id.isspace():
        return None
    return ANONYMOUS + _without_personal_data(anonymous_id)


def account_profile(group_id: str | None) -> str | None:
    """The account of a group id; None for one that is missing or blank."""
    if not group_id or group_id.isspace():
        return None
    return ACCOUNT + _without_personal_data(group_id)


def is_account(profile: str) -> bool:
    """Whether the profile is an account, and no person's."""
    return profile.startswith(ACCOUNT)


def profiles_of(
    user_id: str | None, anonymous_id: str | None, emails: Iterable[object], devices: Iterable[object]
) -> list[str]:
    """All that a call names, each once, by priority: the first is the profile that the call is about.

    `emails` are hashed already, `devices` are mobile advertising ids.
    """
    found = [user_profile(user_id), *(f"{EMAIL}{email}" for email in emails), anonymous_profile(anonymous_id)]
    found.extend(f"{MOBILE}{device}" for device in devices)
    return list(dict.fromkeys(profile for profile in found if profile is not None))


def kind_of(profile: str) -> str:
    """What kind of identifier it is: USER, EMAIL, ANONYMOUS or MOBILE."""
    if profile.startswith(WITHOUT_USER):
        return profile[: profile.index(":") + 1]
    return USER


def external_id_of(profile: str) -> str | None:
    """The user id as it is sent, EXTERN_ID; None for a profile without one, and for an account."""
    if profile.startswith(_NOT_SENT):
        return None
    return profile.removeprefix(USER)


def display_name(profile: str, identifiers: Mapping[str, object], aliases: Mapping[str, int]) -> str:
    """How results name a profile: its user id, else `email:SHA256`, else its anonymous id, else `madid:ID`; of several
    of a kind the earliest.

    `aliases` are all its identifiers, each with the time it was first named; empty: there is but one.
    """
    user_id = external_id_of(profile)
    if user_id is not None:
        return user_id
    if is_account(profile):
        return profile.removeprefix(ACCOUNT)
    earliest = {
        kind_of(alias): alias for _, alias in sorted(((aliases[one], one) for one in aliases), reverse=True)
    }
    earliest.setdefault(kind_of(profile), profile)
    if EMAIL in earliest:
        return earliest[EMAIL]
    if email := identifiers.get("EMAIL"):
        return f"{EMAIL}{email}"
    return earliest[ANONYMOUS if ANONYMOUS in earliest else MOBILE].removeprefix(ANONYMOUS)


def holds_personal_data(text: str) -> bool:
    """Whether the text looks like an e-mail address or a phone number; no profile id does."""
    return "@" in text or _PHONE.fullmatch(text) is not None


def _without_personal_data(identifier: str) -> str:
    if holds_personal_data(identifier):
        return hashlib.sha256(identifier.encode()).hexdigest()
    return identifier
