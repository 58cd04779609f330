"""Resolver: one raw Segment call -> what the evaluation of a profile needs to know of it, or why there is nothing.

Everything that needs no state is decided here: validity, the profile, which feeds' filters the event passes, which
of its values are kept, the identifiers and their hashes. Raw personal data goes no further.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from app.domain.blocked import BlockedIdentifiers
from app.domain.call_source import CallSource
from app.domain.call_times import received_of_refused, times_of
from app.domain.callers import NOTHING, Callers, Named, named_pair
from app.domain.calls import (
    DELETE,
    TYPES,
    Refusal,
    RefusedError,
    has_id,
    message_id_of,
    read_call,
    read_context,
    read_object,
    read_whole,
)
from app.domain.engage import claims_membership
from app.domain.engage_claims import Claim, EngageClaims
from app.domain.engage_places import place_of
from app.domain.feed_hits import FeedHits
from app.domain.group_calls import GroupCalls
from app.domain.left_blank import LeftBlank
from app.domain.normalization import NormalizationOptions
from app.domain.person import identifiers_in, identifiers_of_claim, identifiers_of_row
from app.domain.profile_ids import ANONYMOUS, account_profile, user_profile
from app.domain.reverse_etl import ROW_EVENTS
from app.domain.row_claims import RowClaims, refuse_engage, require_row
from app.domain.sights import Sights
from schemas.dead_letter import DropReason, Reason
from schemas.profile import CALL, FORGET, VERSION, FeedHit, Linking, ProfileEvent
from schemas.segment import ABSENT, SegmentEvent

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from app.domain.callers import Beside
    from app.domain.person import Identifiers
    from app.domain.plan import Plan
    from schemas.control import Place

_NOT_NEEDED: Final = DropReason.NOT_NEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveOptions:
    """`default_country` (ISO alpha-2, capitals) guides phone numbers and states of calls that name no country.

    `source_topic` is the topic whose records are calls of any kind. `legacy_journeys`: a call of a journey's step
    that has no boolean says that the profile has entered. `blocked` are identifiers that identify no one. The
    switches for names are those of `NormalizationOptions`.
    """

    default_country: str | None = None
    keep_name_blanks: bool = False
    romanise_initial: bool = False
    max_event_bytes: int = 32_768
    legacy_journeys: bool = False
    blocked: tuple[str, ...] = ()
    source_topic: str = "segment.events"


class Resolution(msgspec.Struct, gc=False, frozen=True):
    """What becomes of one record: `records` to forward, or the reason why there is none, or both for an Engage
    call or a row whose claim is dropped while what else it says is kept.

    `received` is the record's received time, also when it is refused; None only without a record time.
    `unknown_audience` is the key that an Engage call dropped as UNKNOWN_AUDIENCE speaks of. `placed` is what an
    Engage call says of where its audience is: the key, the place, and its timestamp.
    """

    received: int | None
    records: Sequence[tuple[str, ProfileEvent]] = ()
    dropped: DropReason | None = None
    refused: Refusal | None = None
    unknown_audience: str | None = None
    placed: tuple[str, Place, int] | None = None


class Resolver:
    """Resolves the records of any number of lanes of one topic; not for use by several threads at once.

    `topic` None: the source topic. Every record of another one is a row of the audiences that name it, and no event.
    """

    def __init__(self, plan: Plan, options: ResolveOptions, topic: str | None = None) -> None:
        self._plan = plan
        self._options = options
        self._only_rows = topic is not None and topic != options.source_topic
        self._blocked = BlockedIdentifiers(options.blocked) if options.blocked else None
        rows = RowClaims(plan, self._blocked, topic if self._only_rows else None, options.source_topic)
        self._rows = rows or None
        self._engage = EngageClaims(plan, legacy_journeys=options.legacy_journeys)
        self._hits = FeedHits(plan)
        # The track calls that are more than a profile's existence.
        self._tracked = plan.events.keys() | ROW_EVENTS if self._rows else plan.events
        self._sees_users = plan.holds_for_new(anonymous=False)
        self._sees_anonymous = plan.holds_for_new(anonymous=True)
        self._sees = self._sees_users or self._sees_anonymous
        self._mapped = plan.call_fields
        # Whether a track call that no feed needs may say something all the same.
        self._looks_at_all = self._sees or (self._mapped is not None and self._mapped.reads_tracks)
        self._sights = Sights()
        self._left_blank = LeftBlank()
        self._callers = Callers(options.default_country, self._blocked, self._left_blank)
        self._groups = None if plan.accounts is None else GroupCalls(plan.accounts)

    def take_blocked(self) -> int:
        """How many blocked identifiers came since this was last asked."""
        if self._blocked is None:
            return 0
        seen, self._blocked.seen = self._blocked.seen, 0
        return seen

    def take_left_blank(self) -> Counter[tuple[str, str]]:
        """How many fields said nothing since this was last asked, by column and reason (app.domain.left_blank)."""
        return self._left_blank.take()

    def resolve(
        self, raw: bytes | None, record_time_ms: int | None, wall_ms: int, lane: str, offset: int
    ) -> Resolution:
        """Never raises, whatever the bytes.

        `record_time_ms` is the received time of a call that names none; None: its timestamp is (simulate).
        """
        try:
            return self._resolve(raw, record_time_ms, wall_ms, lane, offset)
        except RefusedError as error:
            refusal = error.refusal
        except msgspec.ValidationError:
            refusal = Refusal(Reason.INVALID_JSON, "a number is out of range")
        except msgspec.DecodeError:
            refusal = Refusal(Reason.INVALID_JSON, "the record is not JSON")
        except RecursionError:
            refusal = Refusal(Reason.INVALID_JSON, "objects and lists are nested too deeply")
        if raw is None or refusal.reason is Reason.TOO_LARGE:
            raw = b""
        return Resolution(received_of_refused(raw, record_time_ms, wall_ms), (), None, refusal)

    def _resolve(
        self, raw: bytes | None, record_time_ms: int | None, wall_ms: int, lane: str, offset: int
    ) -> Resolution:
        """The checks that every call goes through; the order in which they are made is the order of blame."""
        if raw is None:
            raise RefusedError(Reason.NOT_AN_OBJECT, "the record has no value")
        if len(raw) > self._options.max_event_bytes:
            detail = f"the record has more than {self._options.max_event_bytes:,} bytes"
            raise RefusedError(Reason.TOO_LARGE, detail)
        call = read_call(raw)
        if self._blocked is not None:
            call = self._blocked.without(call)
        call_type = call.type
        if call_type is None or call_type not in TYPES:
            if call_type == DELETE and not self._only_rows:
                return self._forget(call, record_time_ms, wall_ms, lane, offset)
            raise RefusedError(Reason.UNKNOWN_TYPE, "type is none of " + ", ".join(sorted(TYPES)))
        received, timestamp = times_of(call, record_time_ms, wall_ms)
        if self._only_rows:
            if self._rows is None:
                return Resolution(received, (), _NOT_NEEDED)
            require_row(call)
            row = self._resolve_row(self._rows, call, CallSource(raw, lane, offset, received, timestamp))
            return row or refuse_engage()
        context = call.context
        # Whose context says nothing new of the person.
        known = context is None or (
            context.personas is ABSENT
            and context.device is ABSENT
            and (context.traits is ABSENT or self._callers.have_said(call, context.traits))
        )
        named_track = known and call_type == "track" and call.event and not call.event.isspace()
        if named_track and not self._looks_at_all and call.event not in self._tracked and has_id(call):
            # Most calls end here.
            if (context is None or context.traits is ABSENT) and self._callers.are_new_pair(call):
                return self._only_links(call, CallSource(raw, lane, offset, received, timestamp))
            return Resolution(received, (), _NOT_NEEDED)
        if call_type == "alias":
            return Resolution(received, (), DropReason.ALIAS)
        if self._rows is not None and call_type == "track" and call.event in ROW_EVENTS:
            row = self._resolve_row(self._rows, call, CallSource(raw, lane, offset, received, timestamp))
            if row is not None:
                return row
        source = CallSource(raw, lane, offset, received, timestamp)
        if known and call_type != "identify" and context is not None and context.traits is not ABSENT:
            profile = user_profile(call.user_id)
            if profile is not None:
                hits = self._hits.of(call, raw)
                group = None if self._groups is None else self._group_of(call)
                made = self._finish(call, Named(profile, None), source, hits, None, None)
                return made if group is None else self._with_account(made, call, profile, group, source)
        beside = self._callers.beside(call)
        if context is not None and context.personas is not ABSENT:
            personas = read_object(context.personas)
            if claims_membership(personas):
                return self._resolve_engage(call, personas, source)
        if call_type == "identify":
            return self._resolve_identify(call, source, beside)
        # What is forwarded counts as known from then on, so nothing may be refused behind it.
        hits = self._hits.of(call, raw)
        group = None if self._groups is None else self._group_of(call)
        if beside is NOTHING:
            named, news = self._callers.named_by_ids(call), None
        else:
            named = self._callers.named(call, beside.contacts, beside.device)
            news = self._callers.news(named.profile, beside)
        made = self._finish(call, named, source, hits, None, news)
        return made if group is None else self._with_account(made, call, named.profile, group, source)

    def _forget(
        self, call: SegmentEvent, record_time_ms: int | None, wall_ms: int, lane: str, offset: int
    ) -> Resolution:
        """A person is to be forgotten, here too: whoever comes back is news again."""
        received, timestamp = times_of(call, record_time_ms, wall_ms)
        profile = user_profile(call.user_id)
        if profile is None:
            raise RefusedError(Reason.NO_IDENTITY, "userId is missing or blank")
        self._sights = Sights()
        self._callers = Callers(self._options.default_country, self._blocked, self._left_blank)
        self._groups = None if self._plan.accounts is None else GroupCalls(self._plan.accounts)
        request = ProfileEvent(VERSION, FORGET, lane, offset, 0, timestamp, received)
        return Resolution(received, ((profile, request),))

    # --- what a call gives ---

    def _resolve_identify(self, call: SegmentEvent, source: CallSource, beside: Beside) -> Resolution:
        traits = read_object(call.traits)
        identifiers = identifiers_in([traits], self._normalization(source))
        named = self._callers.named(call, identifiers, beside.contacts, beside.device)
        news = self._callers.news(named.profile, beside)
        if news:
            own = {column: value for column, value in (identifiers or {}).items() if value is not None}
            identifiers = {**(identifiers or {}), **news, **own}
        return self._finish(call, named, source, [], self._used_traits(traits, None), identifiers)

    def _group_of(self, call: SegmentEvent) -> tuple[str, Any] | None:
        """The account of a group call, and its traits; None: it is no such call."""
        account = account_profile(call.group_id) if call.type == "group" else None
        return None if account is None else (account, read_object(call.traits))

    def _with_account(
        self, made: Resolution, call: SegmentEvent, profile: str, group: tuple[str, Any], source: CallSource
    ) -> Resolution:
        """Of a group call, with what it says to the account and of it; `made` is what it is beside that."""
        if self._groups is None:
            return made
        event = source.event(message_id_of(call))
        further = self._groups.records(profile, *group, event)
        return Resolution(source.received, (*made.records, *further)) if further else made

    def _resolve_engage(self, call: SegmentEvent, personas: dict[str, Any], source: CallSource) -> Resolution:
        """Such a call is no event; its claim may be dropped, its identifiers and other traits are kept anyway."""
        traits, properties = read_object(call.traits), read_object(call.properties)
        context = read_context(source.raw)
        identifiers = identifiers_of_claim(traits, properties, context, self._normalization(source))
        claim = self._engage.of(call, personas, properties, traits)
        named = self._callers.named(call, identifiers)
        used = self._used_traits(traits, claim.key) if call.type == "identify" else None
        made = self._finish(call, named, source, [], used, identifiers, claim)
        place = None if claim.dropped and claim.unknown_audience is None else place_of(personas)
        return made if place is None else replace(made, placed=(claim.key, place, source.timestamp))

    def _resolve_row(self, rows: RowClaims, call: SegmentEvent, source: CallSource) -> Resolution | None:
        """A row of a warehouse; None: no audience takes it for one, or its boolean makes it a call of Engage.

        A row is no event. One that is dropped says nothing but that its profile exists.
        """
        whole = read_whole(source.raw)
        row = rows.of(call, whole)
        if row is None:
            return None
        claims, dropped = row
        identifiers = None if dropped else identifiers_of_row(whole, self._normalization(source))
        parts = [
            self._finish(
                call,
                Named(profile, None),
                source,
                [],
                None,
                identifiers if said else None,
                Claim("", None if dropped else said or None, dropped),
                index,
            )
            for index, (profile, said) in enumerate(claims.items())
        ]
        records = [record for part in parts for record in part.records]
        return Resolution(source.received, records, dropped)

    def _used_traits(self, traits: Any, leave_out: str | None) -> dict[str, Any] | None:
        """The traits that definitions use, as far as the call says something of them."""
        if type(traits) is not dict or not traits:
            return None
        named = self._plan.traits_named
        used = {
            use.path: use.take(traits)
            for name in traits
            if name in named and name != leave_out
            for use in named[name]
        }
        return used or None

    def _normalization(self, source: CallSource) -> NormalizationOptions:
        options = self._options
        return NormalizationOptions(
            today_year=datetime.fromtimestamp(source.received // 1_000, UTC).year,
            default_country=options.default_country,
            keep_name_blanks=options.keep_name_blanks,
            romanise_initial=options.romanise_initial,
            left_blank=self._left_blank,
        )

    # --- forwarding ---

    def _finish(
        self,
        call: SegmentEvent,
        named: Named,
        source: CallSource,
        hits: list[FeedHit],
        traits: dict[str, Any] | None,
        identifiers: Identifiers | None,
        claim: Claim | None = None,
        index: int = 0,
    ) -> Resolution:
        claims = claim.claims if claim else None
        if self._mapped is not None and self._mapped.may_be_in(call):
            identifiers = self._with_mapped(source, identifiers, claim)
        profile, links = named
        first = self._is_first_sight(profile)
        if not (hits or traits or identifiers or claims or first or links):
            dropped = (claim.dropped if claim else None) or _NOT_NEEDED
            return Resolution(source.received, (), dropped, None, claim.unknown_audience if claim else None)
        event = ProfileEvent(
            VERSION,
            CALL,
            source.lane,
            source.offset,
            index,
            source.timestamp,
            source.received,
            message_id_of(call),
            hits,
            traits,
            identifiers,
            claims,
            None,
            Linking(links) if links else None,
        )
        if claim is None:
            return Resolution(source.received, ((profile, event),))
        return Resolution(source.received, ((profile, event),), claim.dropped, None, claim.unknown_audience)

    def _with_mapped(
        self, source: CallSource, identifiers: Identifiers | None, claim: Claim | None
    ) -> Identifiers | None:
        """With what mapped fields take of the call; a row of a warehouse that is dropped says nothing."""
        if self._mapped is None or (claim is not None and claim.dropped is not None and not claim.key):
            return identifiers
        mapped = self._mapped.take(read_whole(source.raw), self._normalization(source))
        return {**(identifiers or {}), **mapped} or None

    def _only_links(self, call: SegmentEvent, source: CallSource) -> Resolution:
        """Of a call that no definition needs, that its two ids are one person's."""
        profile, links = named_pair(call)
        event = source.event(linking=Linking(links or []))
        return Resolution(source.received, ((profile, event),))

    def _is_first_sight(self, profile: str) -> bool:
        """Whether the profile's bare existence is news, and matters to some audience."""
        matters = self._sees_anonymous if profile.startswith(ANONYMOUS) else self._sees_users
        return matters and self._sights.is_first(profile)
