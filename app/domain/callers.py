"""Callers: all that a call names of the person it is about, and which of it is news.

Libraries repeat in every call what they know of the person. It is forwarded unless it has been lately; forgetting that
costs a record and changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from app.domain.calls import RefusedError, read_object
from app.domain.normalization import MetaKey, NormalizationOptions
from app.domain.person import contacts_in, device_identifier
from app.domain.profile_ids import anonymous_profile, profiles_of, user_profile
from app.domain.sights import Sights
from schemas.dead_letter import Reason
from schemas.segment import ABSENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.blocked import BlockedIdentifiers
    from app.domain.left_blank import LeftBlank
    from app.domain.person import Identifiers
    from schemas.segment import SegmentEvent

_EMAIL: Final = MetaKey.EMAIL.value
_MADID: Final = MetaKey.MADID.value
# Distinct `context.traits` that are remembered with what they hold.
_MAX_READ: Final = 20_000


class Named(NamedTuple):
    """The profile that a call is about, and all else that it names, by priority; None: that is known."""

    profile: str
    links: list[str] | None


class Beside(NamedTuple):
    """What a call's context says of the person, beside what the call is about.

    `contacts` are the e-mail addresses and phone numbers of `context.traits`, by column; `sight` stands for who says
    them. `device` is the advertising id, by column.
    """

    contacts: Identifiers
    sight: int
    device: Identifiers


NOTHING: Final = Beside({}, 0, {})


class Callers:
    """Remembers in bounded memory what has been forwarded lately."""

    def __init__(
        self,
        default_country: str | None,
        blocked: BlockedIdentifiers | None = None,
        left_blank: LeftBlank | None = None,
    ) -> None:
        self._blocked = blocked
        # The year matters to birthdays alone, which are no contacts.
        self._normalization = NormalizationOptions(
            today_year=9999, default_country=default_country, left_blank=left_blank
        )
        self._read: dict[bytes, Identifiers] = {}
        self._devices = Sights()
        self._contacts = Sights()
        self._links = Sights()

    def beside(self, call: SegmentEvent) -> Beside:
        """What the context says. Raises RefusedError."""
        context = call.context
        if context is None or (context.device is ABSENT and context.traits is ABSENT):
            return NOTHING
        device: Identifiers = {}
        if context.device is not ABSENT:
            found = device_identifier(read_object(context.device), trusted=False)
            if found is not None:
                device = {_MADID: found}
        contacts: Identifiers = {}
        sight = 0
        if context.traits is not ABSENT:
            sight = _sight(call, context.traits)
            if not device and sight in self._contacts and user_profile(call.user_id) is not None:
                # Nothing new, and it is not by them that the call finds its profile; but one that is refused decides over
                # a device behind it each time.
                sight = 0
            else:
                contacts = self._contacts_in(bytes(context.traits))
        return Beside(contacts, sight, device)

    def _contacts_in(self, traits: bytes) -> Identifiers:
        digest = hashlib.blake2b(traits, digest_size=16).digest()
        known = self._read.get(digest)
        if known is None:
            known = contacts_in(read_object(msgspec.Raw(traits)), self._normalization) or {}
            if len(self._read) >= _MAX_READ:
                self._read.clear()
            self._read[digest] = known
        return known

    def have_said(self, call: SegmentEvent, traits: msgspec.Raw) -> bool:
        """Whether all that such a call names, with these `context.traits`, has been forwarded lately."""
        return _sight(call, traits) in self._contacts

    def news(self, profile: str, beside: Beside) -> Identifiers | None:
        """Those that have not been forwarded for this profile lately; from now on they have."""
        found: Identifiers = {}
        if beside.sight and self._contacts.is_first(beside.sight):
            found.update(beside.contacts)
        if beside.device and self._devices.is_first(f"{beside.device[_MADID]}|{profile}"):
            found.update(beside.device)
        return found or None

    def are_new_pair(self, call: SegmentEvent) -> bool:
        """Whether the call has a user id and an anonymous id that have not been forwarded together lately."""
        user_id, anonymous_id = call.user_id, call.anonymous_id
        if not user_id or not anonymous_id or user_id.isspace() or anonymous_id.isspace():
            return False
        return self._links.is_first(hash((user_id, anonymous_id)))

    def named(self, call: SegmentEvent, *found: Identifiers | None) -> Named:
        """Of all identifiers that the call has, itself and in `found`. Raises RefusedError.

        They are remembered together, as one that is refused decides over those behind it; by 64 bits, so that two
        calls are not confused in practice.
        """
        emails = [email for identifiers in found if identifiers for email in _values(identifiers, _EMAIL)]
        devices = [device for identifiers in found if identifiers for device in _values(identifiers, _MADID)]
        if self._blocked is not None:
            emails, devices = self._blocked.contacts(emails), self._blocked.contacts(devices)
        if not emails and not devices:
            return self.named_by_ids(call)
        profile, *links = profiles_of(call.user_id, call.anonymous_id, emails, devices)
        if links and self._links.is_first(hash((profile, *links))):
            return Named(profile, links)
        return Named(profile, None)

    def named_by_ids(self, call: SegmentEvent) -> Named:
        """Of its user id and anonymous id alone. Raises RefusedError."""
        profile = user_profile(call.user_id)
        if profile is None:
            profile = anonymous_profile(call.anonymous_id)
            if profile is None:
                raise RefusedError(Reason.NO_IDENTITY, "userId and anonymousId are both missing or blank")
            return Named(profile, None)
        if self.are_new_pair(call):
            return named_pair(call)
        return Named(profile, None)


def named_pair(call: SegmentEvent) -> Named:
    """Of a call with a user id and an anonymous id that are to be linked."""
    profile, *links = profiles_of(call.user_id, call.anonymous_id, (), ())
    return Named(profile, links)


def _sight(call: SegmentEvent, traits: msgspec.Raw) -> int:
    """Stands for who says what of themselves in `context.traits`; 64 bits, so two are not confused in practice.

    An identify call is another matter: its traits may name more.
    """
    return hash((call.type == "identify", call.user_id, call.anonymous_id, bytes(traits)))


def _values(identifiers: Identifiers, column: str) -> Sequence[object]:
    value = identifiers.get(column)
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)
