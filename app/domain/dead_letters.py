"""Which dead letters are meant, and what becomes of one when it is replayed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.dead_letter import DeadLetter, Reason

Resolved = Literal["replayed", "superseded", "expired"]

_RAW: Final = "raw"
_AT: Final = "at"


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """What is left empty, or None, lets every letter through; instants are epoch milliseconds.

    `since` and `until` (exclusive) ask for the last failure. `offsets` are those of the record, first to last.
    `profiles` are ids that one person may have; a record of the source topic is found by the digest of its key, for
    which `keys` has candidates. `ids` may be the beginnings of ids.
    """

    ids: Sequence[str] = ()
    stages: Sequence[str] = ()
    reasons: Sequence[str] = ()
    audiences: Sequence[str] = ()
    codes: Sequence[int] = ()
    since: int | None = None
    until: int | None = None
    offsets: tuple[int, int] | None = None
    partition: int | None = None
    profiles: Sequence[str] = ()
    keys: Sequence[str] = ()

    def meets(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        code = letter.facebook.code if letter.facebook else None
        return (
            _any(self.stages, letter.stage)
            and _any(self.reasons, letter.reason.value)
            and _any(self.audiences, letter.audience)
            and _any(self.codes, code)
            and (self.since is None or letter.last_failed_at >= self.since)
            and (self.until is None or letter.last_failed_at < self.until)
            and (self.offsets is None or self.offsets[0] <= letter.origin.offset <= self.offsets[1])
            and (self.partition is None or letter.origin.partition == self.partition)
            and (not self.ids or letter.id.startswith(tuple(self.ids)))
            and (not self.profiles or self._is_of(letter))
        )

    def _is_of(self, letter: DeadLetter) -> bool:
        if letter.stage == "resolve":
            return letter.origin.key in self.keys
        return letter.profile in self.profiles


def _any(wanted: Sequence[object], found: object) -> bool:
    return not wanted or found in wanted


def in_order(letter: DeadLetter) -> tuple[str, int, int, str]:
    """What letters are sorted by: as their records stand in their topics."""
    origin = letter.origin
    return origin.topic, origin.partition, origin.offset, letter.id


def as_resolved(letter: DeadLetter, how: Resolved) -> DeadLetter:
    """The letter that nobody has to care for any more: what it has kept of a call in the clear is given up."""
    kept = letter.record and {name: value for name, value in letter.record.items() if name not in (_RAW, _AT)}
    return letter.model_copy(update={"resolved": how, "record": kept})


def failed_again(letter: DeadLetter, reason: Reason, detail: str, now_ms: int) -> DeadLetter:
    """The letter after one more failure, with the newest reason."""
    update = {
        "reason": reason,
        "detail": detail,
        "attempts": letter.attempts + 1,
        "last_failed_at": now_ms,
    }
    return letter.model_copy(update=update)


# --- records of the source topic ---


def key_digest(key: bytes | None) -> str | None:
    """How a letter names the key of a source record, which may identify a person."""
    return None if key is None else hashlib.sha256(key).hexdigest()


def shape_of(value: bytes | None) -> dict[str, Any]:
    """What a letter keeps of a source record: enough to know it again."""
    return {"bytes": len(value or b""), "sha256": hashlib.sha256(value or b"").hexdigest()}


def with_raw(shape: dict[str, Any], value: bytes | None, at: int) -> dict[str, Any]:
    """The shape and the record itself; `at` is Kafka's record time."""
    return {**shape, _RAW: base64.b64encode(value or b"").decode(), _AT: at}


def raw_of(letter: DeadLetter) -> tuple[bytes, int] | None:
    """What `with_raw` kept; None: nothing, or nothing that can be read."""
    kept = letter.record or {}
    raw, at = kept.get(_RAW), kept.get(_AT)
    if not isinstance(raw, str) or not isinstance(at, int):
        return None
    try:
        value = base64.b64decode(raw, validate=True)
    except ValueError:
        return None
    return value, at


def is_record_of(letter: DeadLetter, key: bytes | None, value: bytes | None) -> bool:
    """Whether this record, at the letter's coordinates, is the one that it is about.

    A topic that was deleted and created again has other records at the same offsets.
    """
    if letter.stage == "resolve" and letter.origin.key != key_digest(key):
        return False
    shape = shape_of(value)
    return all(shape[name] == kept for name, kept in (letter.record or {}).items() if name in shape)
