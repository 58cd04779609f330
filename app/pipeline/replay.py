"""dead.letters → back to where the record came from.

    of resolve    the record, read again of its topic ──► resolve ──► profile.events
    of evaluate   the record of profile.events, read again ───► profile.events
    of deliver    nothing newer in audience.memberships? ─────► profile.events: say the membership once more

What is written and what becomes of the letters is one transaction, and whoever begins a replay ends every other one:
a letter that was replayed is resolved, so nothing is done twice however often it is asked for. All of it has one lane,
whose positions are the sizes of dead.letters: they grow with each transaction. It is no lane that a clock waits for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from app.domain.dead_letters import as_resolved, failed_again, in_order, is_record_of, raw_of
from app.domain.formats import UNDECODABLE, is_packed, refuse_newer_json, refuse_newer_packed
from app.domain.replaying import as_news
from app.domain.resolution import Resolver
from app.pipeline.evaluate import fits
from app.ports import Record, StoredRecord
from schemas.dead_letter import Reason
from schemas.membership import Cause, Change, MembershipDelta
from schemas.profile import ASK, CALL, DONE, FORGET, MERGE, MOVED, REPEAT, VERSION, ProfileEvent, Repeat
from topics.partitioning import membership_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from app.domain.replaying import Projection
    from app.domain.resolution import ResolveOptions
    from app.ports import Clock, ReplayLog
    from schemas.dead_letter import DeadLetter
    from topics.catalog import Catalog

# Letters of one transaction at most.
MOST_LETTERS: Final = 500
# No topic id reads like this.
_LANE: Final = "replay/"
# What a record of profile.events says for itself alone, whenever it comes.
_KINDS: Final = frozenset({CALL, ASK, MERGE, DONE, MOVED, REPEAT, FORGET})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ProfileEvent).decode
_decode_delta = msgspec.json.Decoder(MembershipDelta).decode


class Outcome(StrEnum):
    """What became of a letter. `waiting`: not for replay now, as `why` says."""

    REPLAYED = "replayed"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    FAILED = "failed"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Result:
    """`letter` as it is now; `why` in words, where it was not replayed. `dropped`: replayed, to no effect."""

    letter: DeadLetter
    outcome: Outcome
    why: str | None = None
    dropped: str | None = None


@dataclass(slots=True)
class _Asked:
    """A membership to be said once more."""

    newest: MembershipDelta | None
    failures: dict[str, tuple[int, int]] = field(default_factory=dict)
    said: bool = False


@dataclass(slots=True)
class _Chunk:
    """The content of one transaction as it is made: `events` for profile.events, by profile."""

    results: list[Result] = field(default_factory=list)
    events: list[tuple[bytes, ProfileEvent]] = field(default_factory=list)


class Replay:
    """One replay. `definitions` gives what is in force now; `dead_letters` is the topic's own id."""

    def __init__(
        self,
        log: ReplayLog,
        definitions: Callable[[], Projection],
        options: ResolveOptions,
        clock: Clock,
        catalog: Catalog,
        dead_letters: str,
    ) -> None:
        self._log = log
        self._definitions = definitions
        self._options = options
        self._clock = clock
        self._catalog = catalog
        self._lane = f"{_LANE}{dead_letters}"
        self._projection: Projection | None = None
        # By topic, of the present projection.
        self._resolvers: dict[str, Resolver] = {}
        self._kept: dict[str, Mapping[int, tuple[int, int]]] = {}
        # How far resolve has come, by topic.
        self._committed: dict[str, Mapping[int, int]] = {}
        self._asked: dict[bytes, _Asked] = {}
        # How far dead.letters has been looked through for letters that are deleted, and those.
        self._looked: dict[int, int] = {}
        self._deleted: set[bytes] = set()

    def run(
        self, letters: Sequence[DeadLetter], most: int = MOST_LETTERS, *, dry_run: bool = False
    ) -> Iterator[list[Result]]:
        """Replay unresolved letters, at most so many at a time; each list is done for when it is given.

        A dry run writes nothing, and gives what would become of the letters but for what Facebook will say.
        """
        self._look(letters)
        ordered = sorted(letters, key=in_order)
        for start in range(0, len(ordered), most):
            chunk = self._replayed(ordered[start : start + most])
            if not dry_run:
                self._commit(chunk)
            yield chunk.results

    # -- what is asked once ------------------------------------------------------------------------------------

    def _look(self, letters: Iterable[DeadLetter]) -> None:
        self._find_deleted()
        refused: dict[int, list[DeadLetter]] = {}
        for letter in letters:
            topic = letter.origin.topic
            if _is_of_a_row(letter):
                refused.setdefault(letter.origin.partition, []).append(letter)
                continue
            if topic not in self._kept:
                self._kept[topic] = self._log.kept(topic)
            if letter.stage == "resolve" and topic not in self._committed:
                self._committed[topic] = self._log.committed(topic)
        for partition, group in refused.items():
            self._look_for_deltas(partition, group)

    def _look_for_deltas(self, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Whatever is newer than a letter's delta stands behind it."""
        first = min(letter.origin.offset for letter in letters)
        newest = self._log.newest_deltas(partition, first, {_key(letter) for letter in letters})
        for letter in letters:
            key = _key(letter)
            asked = self._asked.get(key)
            if asked is None:
                asked = self._asked[key] = _Asked(_delta(newest.get(key)))
            if asked.newest is not None and _said(asked.newest) == letter.sequence:
                destination = letter.destination or ""
                attempts, since = asked.failures.get(destination, (0, letter.first_failed_at))
                asked.failures[destination] = (
                    max(attempts, letter.attempts),
                    min(since, letter.first_failed_at),
                )

    # -- one chunk ---------------------------------------------------------------------------------------------

    def _replayed(self, letters: Sequence[DeadLetter]) -> _Chunk:
        projection = self._definitions()
        if self._projection is None or projection.numbers != self._projection.numbers:
            self._resolvers.clear()
        self._projection = projection
        chunk = _Chunk()
        for (topic, partition), group in groupby(
            letters, lambda one: (one.origin.topic, one.origin.partition)
        ):
            rows: list[DeadLetter] = []
            others: list[DeadLetter] = []
            for letter in group:
                (rows if _is_of_a_row(letter) else others).append(letter)
            for letter in rows:
                self._say_again(letter, projection, chunk)
            if others:
                self._read_again(topic, partition, others, chunk)
        return chunk

    def _read_again(self, topic: str, partition: int, letters: Sequence[DeadLetter], chunk: _Chunk) -> None:
        first, end = self._kept.get(topic, {}).get(partition, (0, 0))
        offsets = sorted({letter.origin.offset for letter in letters if first <= letter.origin.offset < end})
        records = self._log.records_at(topic, partition, offsets) if offsets else {}
        for letter in letters:
            offset = letter.origin.offset
            record = records.get(offset)
            if letter.stage == "resolve" and self._is_read(topic):
                done = self._committed[topic].get(partition)
                if done is None or offset >= done:
                    what = "the source topic" if topic == self._catalog.source.name else topic
                    why = f"the workers are not done with {what} up to there"
                    chunk.results.append(Result(letter, Outcome.WAITING, why))
                    continue
            kept = raw_of(letter)
            if letter.stage == "resolve" and kept is not None:
                self._resolve(letter, StoredRecord(offset, kept[1], None, kept[0]), chunk)
            elif record is None:
                _end(chunk, letter, Outcome.EXPIRED, f"{topic} keeps the record no longer")
            elif not is_record_of(letter, record.key, record.value):
                _end(chunk, letter, Outcome.EXPIRED, f"{topic} has another record there by now")
            elif letter.stage == "resolve":
                self._resolve(letter, record, chunk)
            else:
                self._take_again(letter, record, chunk)

    def _is_read(self, topic: str) -> bool:
        """What a record of another topic would be, an event or a row, nobody can say."""
        assert self._projection is not None  # noqa: S101 - for the type checker: made with the chunk
        rows = [one.rows for one in self._projection.plan.audiences.values() if one.rows is not None]
        return topic in (self._catalog.source.name, *(one.topic for one in rows))

    def _resolver(self, topic: str) -> Resolver:
        assert self._projection is not None  # noqa: S101 - for the type checker: made with the chunk
        if topic not in self._resolvers:
            only_rows = topic != self._catalog.source.name
            self._resolvers[topic] = Resolver(
                self._projection.plan, self._options, topic if only_rows else None
            )
        return self._resolvers[topic]

    def _resolve(self, letter: DeadLetter, record: StoredRecord, chunk: _Chunk) -> None:
        assert self._projection is not None  # noqa: S101 - as above
        topic = letter.origin.topic
        if not self._is_read(topic):
            why = f"{topic} is neither the source topic nor one that an audience takes its rows from"
            chunk.results.append(Result(letter, Outcome.WAITING, why))
            return
        now = self._clock.now_ms()
        outcome = self._resolver(topic).resolve(
            record.value, record.timestamp, now, self._lane, letter.origin.offset
        )
        if outcome.refused is not None:
            again = failed_again(letter, outcome.refused.reason, outcome.refused.detail, now)
            chunk.results.append(Result(again, Outcome.FAILED, again.detail))
            return
        for profile, event in outcome.records:
            for part in as_news(event, self._projection.filled, letter.first_failed_at):
                chunk.events.append((profile.encode(), part))
        dropped = None if outcome.dropped is None else outcome.dropped.value
        _end(chunk, letter, Outcome.REPLAYED, dropped=dropped)

    def _take_again(self, letter: DeadLetter, record: StoredRecord, chunk: _Chunk) -> None:
        """A record of profile.events that could not be read, perhaps by an older release."""
        event = self._readable(letter, record)
        if event is None:
            again = failed_again(letter, letter.reason, letter.detail, self._clock.now_ms())
            chunk.results.append(Result(again, Outcome.FAILED, again.detail))
        elif event.kind not in _KINDS:
            detail = "the record says how far others have come, which has been said anew since"
            _end(chunk, letter, Outcome.SUPERSEDED, detail)
        else:
            chunk.events.append((record.key or b"", event))
            _end(chunk, letter, Outcome.REPLAYED)

    def _readable(self, letter: DeadLetter, record: StoredRecord) -> ProfileEvent | None:
        if letter.stage != "evaluate" or letter.reason not in (Reason.INVALID_FIELD, Reason.NEWER_FORMAT):
            return None
        try:
            event = _decode(record.value or b"")
            (record.key or b"").decode()
        except UNDECODABLE:
            # What was set aside waits for a release that knows it, and holds up no other letter.
            if letter.reason is not Reason.NEWER_FORMAT and is_packed(record.value or b""):
                refuse_newer_packed(ProfileEvent.__name__, record.value or b"")
            return None
        feeds = {} if self._projection is None else self._projection.plan.feeds
        return event if fits(event, feeds) else None

    def _say_again(self, letter: DeadLetter, projection: Projection, chunk: _Chunk) -> None:
        asked = self._asked[_key(letter)]
        newest, destination = asked.newest, letter.destination or ""
        if _is_of_somebody_forgotten(letter, newest):
            why = (
                "the person was forgotten, and nothing is known of them to send again: "
                f"`audience-sync audiences resync {destination} --replace` takes them out"
            )
            chunk.results.append(Result(letter, Outcome.WAITING, why))
            return
        if newest is None or _said(newest) != letter.sequence:
            _end(chunk, letter, Outcome.SUPERSEDED, "a newer change of the membership has taken its place")
            return
        if destination not in projection.destinations or destination not in newest.rows:
            _end(chunk, letter, Outcome.SUPERSEDED, "the destination is told of this no longer")
            return
        if not asked.said:
            asked.said = True
            chunk.events.append((newest.profile.encode(), self._request(newest, letter, asked)))
        _end(chunk, letter, Outcome.REPLAYED)

    def _request(self, newest: MembershipDelta, letter: DeadLetter, asked: _Asked) -> ProfileEvent:
        request = Repeat(
            newest.audience, newest.sequence, letter.origin.offset, letter.sequence or 0, asked.failures
        )
        now = self._clock.now_ms()
        return ProfileEvent(VERSION, REPEAT, self._lane, 0, 0, now, 0, repeat=request)

    # -- writing -----------------------------------------------------------------------------------------------

    def _commit(self, chunk: _Chunk) -> None:
        self._find_deleted()
        letters = [
            result.letter
            for result in chunk.results
            if result.outcome is not Outcome.WAITING and result.letter.id.encode() not in self._deleted
        ]
        if not letters:
            return
        position = self._log.position()
        events, topic = self._catalog.profile_events.name, self._catalog.dead_letters.name
        records = [
            Record(events, -1, key, _encode(replace(event, lane=self._lane, offset=position, index=index)))
            for index, (key, event) in enumerate(chunk.events)
        ]
        records += [
            Record(topic, -1, letter.id.encode(), letter.model_dump_json().encode()) for letter in letters
        ]
        self._log.commit(records)

    def _find_deleted(self) -> None:
        """Letters go when the person is forgotten whom they are about, and are not to be written once more."""
        topic = self._catalog.dead_letters.name
        for partition, (_, end) in self._log.kept(topic).items():
            first = self._looked.setdefault(partition, end)
            if first < end:
                for record in self._log.records_at(topic, partition, range(first, end)).values():
                    if record.value is None:
                        self._deleted.add(record.key or b"")
                self._looked[partition] = end


@dataclass(slots=True)
class Totals:
    """What became of all letters of a replay; `dropped` by reason. `others` are the first that were not replayed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    others: list[Result] = field(default_factory=list)

    def add(self, results: Iterable[Result], most_others: int) -> None:
        """One more chunk."""
        for result in results:
            self.outcomes[result.outcome.value] += 1
            if result.dropped is not None:
                self.dropped[result.dropped] += 1
            if result.outcome is not Outcome.REPLAYED and len(self.others) < most_others:
                self.others.append(result)


def _end(
    chunk: _Chunk, letter: DeadLetter, outcome: Outcome, why: str | None = None, dropped: str | None = None
) -> None:
    how: dict[Outcome, DeadLetter] = {
        Outcome.REPLAYED: as_resolved(letter, "replayed"),
        Outcome.SUPERSEDED: as_resolved(letter, "superseded"),
        Outcome.EXPIRED: as_resolved(letter, "expired"),
    }
    chunk.results.append(Result(how[outcome], outcome, why, dropped))


def _is_of_a_row(letter: DeadLetter) -> bool:
    """Whether Facebook has refused what the letter is about; the others of delivery are records that are no delta."""
    return letter.stage == "deliver" and letter.destination is not None and letter.profile is not None


def _key(letter: DeadLetter) -> bytes:
    return membership_key(letter.audience or "", letter.profile or "")


def _delta(value: bytes | None) -> MembershipDelta | None:
    """None: there is none any more, as somebody was forgotten, or it cannot be read."""
    try:
        return None if value is None else _decode_delta(value)
    except UNDECODABLE:
        refuse_newer_json(MembershipDelta.__name__, value or b"")
        return None


def _is_of_somebody_forgotten(letter: DeadLetter, newest: MembershipDelta | None) -> bool:
    """Whether Facebook refused their removal: letters before it are deleted, and in the end its delta."""
    if newest is None:
        return (letter.record or {}).get("change") == Change.EXITED.value
    return newest.cause is Cause.FORGOTTEN and _said(newest) == letter.sequence


def _said(delta: MembershipDelta) -> int:
    """The sequence of the change that the delta says, for the first time or once more."""
    return delta.sequence if delta.repeats is msgspec.UNSET else delta.repeats.sequence
