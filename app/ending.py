"""What a worker says to whoever watches it, and how it ends when it cannot go on."""

from __future__ import annotations

import contextlib
import os
import sys

from app.errors import AudienceSyncError, NewerFormatError, UnreadableRecordError, kind_and_place

# What the next start would meet once more.
NO_USE_STARTING_AGAIN = (NewerFormatError, UnreadableRecordError)


def say(text: str) -> None:
    """A state change, for whoever watches the process; where it cannot be written, a full disk say, it is not said."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the worker's output for its supervisor


def fail(exc: BaseException) -> None:
    """End the process: what is in memory may not be what Kafka has. A supervisor starts it again.

    Of an unexpected exception only the type and the place are said: its text may hold what an event held.
    """
    try:
        if isinstance(exc, AudienceSyncError):
            say(f"worker: ended: {exc}")
        else:
            say(f"worker: ended: unexpected {kind_and_place(exc)}")
    finally:
        # Also when there is no memory left to say why, or nobody reads it.
        os._exit(exc.exit_status if isinstance(exc, NO_USE_STARTING_AGAIN) else 1)
