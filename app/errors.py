"""Every error the application raises, one class per reaction of whoever catches it.

    AudienceSyncError
    ├── TransientError       try again, after `wait_seconds` when the other side named a wait
    │   └── UnreachableError the other side does not answer at all; a command gives up after 30 s, status 3
    ├── PermanentError       never try again unchanged: the record or request itself is refused
    ├── NeedsPersonError     stop this scope and tell a person: token, permission, terms
    ├── InvalidInputError    what the user wrote cannot be used: settings, definitions, arguments, status 2
    ├── NewerFormatError     Kafka holds what a newer release wrote: only that one may go on, status 2
    ├── UnreadableRecordError Kafka holds what no release wrote: a person has to take it away, status 2
    └── FatalError           this process must end and be started again by its supervisor, status 1

A rejected row is data, not an exception: see `app.ports.UsersAnswer`.
Messages name what, where and the fix, and never hold a raw identifier, a payload or a secret.
"""

from __future__ import annotations

import traceback
from pathlib import Path


class AudienceSyncError(Exception):
    """Base of all errors raised on purpose; its text may be shown to a user as it is."""

    exit_status = 1


class TransientError(AudienceSyncError):
    """Trying again may work.

    `wait_seconds` is what the other side asked for; None leaves the wait to the caller's back-off.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class UnreachableError(TransientError):
    """The other side gave no answer at all: refused, timed out, cut."""

    exit_status = 3


class PermanentError(AudienceSyncError):
    """The same request or record would be refused again."""


class NeedsPersonError(AudienceSyncError):
    """Only a person can remove the cause; the text says what they have to do."""


class InvalidInputError(AudienceSyncError):
    """Settings, definitions or arguments that cannot be used; the text says where and what was expected."""

    exit_status = 2


class NewerFormatError(AudienceSyncError):
    """Another release has to run here; starting this one again does not help."""

    exit_status = 2


class UnreadableRecordError(AudienceSyncError):
    """A record that everything depends on is none of ours; the text names it, and starting again does not help."""

    exit_status = 2


class FatalError(AudienceSyncError):
    """State in memory can no longer be trusted; only a restart from Kafka's log is safe."""


def kind_and_place(exc: BaseException) -> str:
    """All that may be said of an exception nobody expected: its type and the innermost three places, the last one first.

    Not its text, which may hold what an event or a request held.
    """
    frames = traceback.extract_tb(exc.__traceback__)[-3:]
    place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(exc).__name__} at {place}"
