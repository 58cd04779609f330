"""Engage calls: what Segment Engage would say of the changes that are made here, for whoever reads its calls.

A call is about one profile and names it by its own id, no other: a second installation that reads the calls has the
same profiles then, whatever it learns elsewhere. One exception: a profile of an anonymous id is told with its mobile
advertising id, without which it would be in no audience that leaves anonymous people out. Who is told so is the same
person there, so an advertising id that has become part of an anonymous id is not told to have left.

What the newest call of a profile and key says is what holds, by its `timestamp`. An event that counts a little before
its timestamp can make a change at an instant behind that of the change after it, and two changes can share an instant;
so the state remembers the timestamps that the next call has to be behind.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.domain.instants import format_instant
from app.domain.linking import owner_of
from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE, external_id_of, is_account, kind_of
from app.domain.state import CallsState, ToldTrait, encode_value
from app.domain.values import Composite, restored
from schemas.engage_call import EngageCall
from schemas.membership import Cause, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.evaluation import Instant
    from app.domain.plan import ComputedTrait
    from app.domain.state import ProfileState
    from schemas.membership import MembershipDelta

IDENTIFY: Final = "identify"
TRACK: Final = "track"
# What the setting may say -> the calls made of one change of a membership.
CALL_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "off": (),
    IDENTIFY: (IDENTIFY,),
    TRACK: (TRACK,),
    "both": (IDENTIFY, TRACK),
}

_ENTERED: Final = "Audience Entered"
_EXITED: Final = "Audience Exited"
_EXIT: Final = Change.EXITED
_MADID: Final = "MADID"
_DIGITS: Final = 32
_DIGEST_BYTES: Final = 8


class EngageCalls:
    """The calls of one partition of profile.events, until they are taken.

    `installation` tells this one's computations and messages from those of others. `types` are the calls made of one
    membership; a computed trait is always an identify call, as it is known from no other. `early_ms` as of the
    partition.
    """

    __slots__ = ("_calls", "_early_ms", "_installation", "_space", "_types")

    def __init__(self, installation: str, types: Iterable[str], early_ms: int) -> None:
        self._installation = installation
        self._types = tuple(types)
        self._early_ms = early_ms
        self._space = f"spa_{_digits(installation)}"
        self._calls: list[tuple[str, EngageCall]] = []

    def take(self) -> list[tuple[str, EngageCall]]:
        """Profile and call, those of a profile in order; the next time only what came since."""
        taken, self._calls = self._calls, []
        return taken

    # --- memberships ---

    def tell_memberships(
        self, deltas: Iterable[MembershipDelta], states: Mapping[bytes, ProfileState]
    ) -> None:
        """Of these changes, in order. `states` are those that will be written with them; they change, too.

        Of an account that is a member nothing is said: it is no profile of Engage's. Its people are told of.
        """
        for delta in deltas:
            if is_account(delta.profile):
                continue
            state = states[delta.profile.encode()]
            if (owner := owner_of(state)) is None:
                timestamp = self._behind(state, delta)
            elif kind_of(delta.profile) == MOBILE and kind_of(owner) == ANONYMOUS:
                continue
            else:
                # The last that is ever said of it; whatever has been said is not newer than this.
                timestamp = delta.at + self._early_ms if delta.cause is Cause.MERGE else delta.at
            for call_type in self._types:
                self._calls.append((delta.profile, self._membership(delta, state, call_type, timestamp)))

    def _behind(self, state: ProfileState, delta: MembershipDelta) -> int:
        """The timestamp of the call; from now on the next one of this audience has to be behind it."""
        calls = state.calls
        if calls is None:
            calls = state.calls = CallsState()
        newest, key, at = calls.newest, delta.audience, delta.at
        timestamp = max(at, newest.get(key, -1) + 1)
        # Every later instant is behind those; of what accounts say, only behind what they have said.
        passed = (at if state.ties is None else min(at, state.ties.at)) - self._early_ms
        for other in [other for other, said in newest.items() if said < passed]:
            del newest[other]
        newest[key] = timestamp
        return timestamp

    def _membership(
        self, delta: MembershipDelta, state: ProfileState, call_type: str, timestamp: int
    ) -> EngageCall:
        key, member = delta.audience, delta.change is not _EXIT
        context = self._context("audience", "aud", key)
        said: dict[str, Any] = {key: member}
        event = None
        if call_type == TRACK:
            event = _ENTERED if member else _EXITED
            said = {"audience_key": key, **said}
        message = self._message_id(call_type, key, delta.profile, delta.sequence)
        return _call(delta.profile, state, call_type, message, timestamp, delta.at, context, said, event)

    # --- computed traits ---

    def tell_traits(
        self, profile: str, state: ProfileState, traits: Mapping[str, ComputedTrait], instant: Instant
    ) -> bool:
        """Of the computed traits that have another value than was last said; whether there are any.

        The state has their values of this instant, and remembers from now on what has been said.
        """
        told = {} if state.calls is None else state.calls.traits
        changed = {}
        for key in state.computed.keys() | told.keys():
            trait = traits.get(key)
            if trait is None:
                continue
            value = state.computed.get(key, trait.empty)
            before = told.get(key)
            digest = _digest(value)
            if before is None or before.digest != digest:
                changed[key] = value, digest, before
        for key, (value, digest, before) in sorted(changed.items()):
            timestamp = instant.now if before is None else max(instant.now, before.timestamp + 1)
            number = 1 if before is None else before.number + 1
            if state.calls is None:
                state.calls = CallsState()
            state.calls.traits[key] = ToldTrait(digest, number, timestamp)
            message = self._message_id("computed_trait", key, profile, number)
            context = self._context("computed_trait", "tra", key)
            said = {key: _as_json(value)}
            call = _call(profile, state, IDENTIFY, message, timestamp, instant.now, context, said, None)
            self._calls.append((profile, call))
        return bool(changed)

    # --- parts ---

    def _context(self, computation: str, prefix: str, key: str) -> dict[str, Any]:
        personas = {
            "computation_class": computation,
            "computation_id": f"{prefix}_{_digits(self._installation, key)}",
            "computation_key": key,
            "namespace": self._space,
            "space_id": self._space,
        }
        return {"personas": personas}

    def _message_id(self, kind: str, key: str, profile: str, number: int) -> str:
        return f"personas_{_digits(self._installation, kind, key, profile, str(number))}"


def _call(
    profile: str,
    state: ProfileState,
    call_type: str,
    message_id: str,
    timestamp: int,
    at: int,
    context: dict[str, Any],
    said: dict[str, Any],
    event: str | None,
) -> EngageCall:
    """The call, with the profile's id where Segment has one of its kind."""
    kind = kind_of(profile)
    if kind == EMAIL:
        contact = {"email": profile.removeprefix(EMAIL)}
        if call_type == IDENTIFY:
            said = {**contact, **said}
        else:
            context["traits"] = contact
    elif kind == MOBILE:
        context["device"] = {"advertisingId": profile.removeprefix(MOBILE)}
    elif kind == ANONYMOUS and (device := state.identifiers.get(_MADID)) is not None:
        context["device"] = {"advertisingId": device.value}
    return EngageCall(
        type=call_type,
        message_id=message_id,
        timestamp=format_instant(timestamp),
        received_at=format_instant(at),
        context=context,
        user_id=external_id_of(profile),
        anonymous_id=profile.removeprefix(ANONYMOUS) if kind == ANONYMOUS else None,
        event=event,
        traits=said if call_type == IDENTIFY else None,
        properties=None if call_type == IDENTIFY else said,
    )


def _digits(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]


def _digest(value: Any) -> int:
    """Stands for a value: lists are long, and a state keeps what was last said of each trait."""
    return int.from_bytes(hashlib.blake2b(encode_value(value), digest_size=_DIGEST_BYTES).digest(), "big")


def _as_json(value: Any) -> Any:
    found = restored(value)
    if not isinstance(found, Composite):
        return value
    try:
        return msgspec.json.decode(found.text)
    except msgspec.DecodeError:
        return found.text  # it was too long to be kept whole
