"""Linking: how the identifiers of one person come to be one profile, though each lives in a partition of its own.

Every identifier is a profile of its own until it is linked. A call is about the first identifier it names; that
profile then asks for the others, one after the other, in order of priority (ASK). The profile that an asked identifier
belongs to answers at once:

- it belongs to the asker already, or together they would have more identifiers than a profile may: nothing (DONE);
- it ranks below the asker: it sends all that is known of it and ends (MERGE). A forwarder stays behind, which passes on
  whatever still comes, and the other identifiers of it are told where they belong (MOVED);
- it is nothing yet: it ends as well, and asks for the next identifier in the asker's name, if there is one. Unless the
  asker is of a lower kind: calls ask for lower kinds only, so it was forgotten, and the question meant one of its
  identifiers of before. That is no answer to give: nothing (DONE);
- it ranks above the asker: it takes the matter over and asks for the asker in turn (DONE).

Every answer says which identifiers the asker has by then. One identifier is asked for at a time, so that limits are
counted exactly; nobody is made to wait for an answer, so nobody waits in a circle. Who ends always gives way to a
profile that asked before and ranks higher, or was nothing: forwarders never form a ring. An identifier that is
refused is dropped from its call, and so are the identifiers of lower priority in that call; what has been refused
once would be refused again.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from app.domain.person_state import IdentityState
from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE, USER, WITHOUT_USER, kind_of
from app.domain.state import ProfileState, forwarder
from schemas.profile import ASK, DONE, MERGE, MOVED, VERSION, Linking, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.domain.mailbox import Mailbox

# How many identifiers of a kind a profile may have. Segment's further limits, 100 merges and 1,000 identifiers of a
# profile, are never reached within these.
LIMITS: Final[Mapping[str, int]] = {USER: 1, EMAIL: 5, ANONYMOUS: 5, MOBILE: 5}
# With so many identifiers only user ids can be too many.
_FEW: Final = min(limit for kind, limit in LIMITS.items() if kind != USER)
_RANKS: Final = {USER: 0, EMAIL: 1, ANONYMOUS: 2, MOBILE: 3}

# Chains that wait in one profile; only more new identifiers than that within moments find no room.
MAX_WAITING: Final = 100


class Verdict(Enum):
    """What becomes of an ASK."""

    REFUSED = auto()
    YIELDS = auto()
    TAKES_OVER = auto()


def owner_of(state: ProfileState) -> str | None:
    """The profile that this one has become part of."""
    return state.owner


def outranks(profile: str, other: str) -> bool:
    """Which of two profiles goes on when they become one."""
    return (_RANKS[kind_of(profile)], profile) < (_RANKS[kind_of(other)], other)


def fits_together(aliases: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one profile may have all of these identifiers."""
    together = {*aliases, *others}
    if len(together) <= _FEW:
        return sum(not alias.startswith(WITHOUT_USER) for alias in together) <= LIMITS[USER]
    room = dict(LIMITS)
    for alias in together:
        kind = kind_of(alias)
        if not room[kind]:
            return False
        room[kind] -= 1
    return True


def aliases_of(profile: str, state: ProfileState) -> dict[str, int]:
    """All identifiers of a profile that has not ended."""
    return {profile: state.since} if state.identity is None else state.identity.aliases


def identity_of(profile: str, state: ProfileState, event: ProfileEvent) -> IdentityState:
    """What it is known by, itself first; from now on it has one."""
    if state.identity is None:
        state.identity = IdentityState(aliases={profile: state.since or event.received})
    return state.identity


# --- the side that asks ---


def link(
    profile: str, state: ProfileState, links: Sequence[str], event: ProfileEvent, mailbox: Mailbox
) -> None:
    """A call about the profile names these identifiers as well."""
    identity = identity_of(profile, state, event)
    chain = [one for one in links if one not in identity.aliases]
    if chain and chain not in identity.links and len(identity.links) < MAX_WAITING:
        identity.links.append(chain)
    go_on(profile, identity, event, mailbox)


def go_on(profile: str, identity: IdentityState, event: ProfileEvent, mailbox: Mailbox) -> None:
    """Asks for the next identifier, unless one is being asked for."""
    while identity.links and not identity.asking:
        identity.asking = _ask(profile, identity.aliases, identity.links.pop(0), event, mailbox)


def _ask(
    asker: str, aliases: Mapping[str, int], links: Sequence[str], event: ProfileEvent, mailbox: Mailbox
) -> bool:
    """Asks for the first of the links that the asker, with these aliases, has not got; False: there is none, or no
    room for it.
    """
    for place, link in enumerate(links):
        if link not in aliases:
            if not fits_together(aliases, (link,)):
                break
            said = Linking(list(links[place + 1 :]), asker, dict(aliases))
            mailbox.send(link, _message(ASK, event, said))
            return True
    return False


def answered(profile: str, identity: IdentityState, event: ProfileEvent, mailbox: Mailbox) -> None:
    """A MERGE, already taken in, or a DONE has come; the asker may be a profile that has ended here since."""
    said = event.linking or Linking()
    if said.asker == profile:
        identity.asking = False
    if said.links:
        identity.links.insert(0, list(said.links))
    go_on(profile, identity, event, mailbox)


# --- the side that is asked ---


def decide(profile: str, state: ProfileState | None, asked: Linking) -> Verdict:
    """What the profile answers; `state` None: nothing is known of it."""
    aliases = {profile: 0} if state is None else aliases_of(profile, state)
    if not fits_together(aliases, asked.aliases):
        return Verdict.REFUSED
    if state is None and _RANKS[kind_of(asked.asker)] > _RANKS[kind_of(profile)]:
        return Verdict.REFUSED
    if state is None or outranks(asked.asker, profile):
        return Verdict.YIELDS
    return Verdict.TAKES_OVER


def refuse(event: ProfileEvent, links: list[str], mailbox: Mailbox) -> None:
    """Answers an ASK; `links` are what the asker is to go on with."""
    said = event.linking or Linking()
    mailbox.send(said.asker, _message(DONE, event, Linking(links, said.asker, said.aliases)))


def take_over(profile: str, state: ProfileState, event: ProfileEvent, mailbox: Mailbox) -> None:
    """The profile asks for its asker, and for what that was to ask for next."""
    said = event.linking or Linking()
    refuse(event, [], mailbox)
    link(profile, state, [said.asker, *said.links], event, mailbox)


def give_way(
    profile: str, state: ProfileState | None, encoded: bytes | None, event: ProfileEvent, mailbox: Mailbox
) -> ProfileState:
    """The state of the forwarder that stays behind; `encoded` is all that is known of the profile that ends.

    `state` None: the identifier was nothing yet, and is an alias of the asker from now on.
    """
    said = event.linking or Linking()
    owner = said.asker
    aliases = {profile: event.received} if state is None else aliases_of(profile, state)
    together = {**said.aliases, **aliases}
    if state is None and _ask(owner, together, said.links, event, mailbox):
        return forwarder(owner)
    mailbox.send(owner, _message(MERGE, event, Linking(said.links, owner, together, encoded)))
    for alias in aliases:
        if alias != profile:
            mailbox.send(alias, _message(MOVED, event, Linking([], owner)))
    return forwarder(owner)


def _message(kind: int, event: ProfileEvent, said: Linking) -> ProfileEvent:
    """Of the time of the call that it all began with."""
    return ProfileEvent(VERSION, kind, "", 0, 0, event.timestamp, event.received, linking=said)
