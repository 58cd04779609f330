"""Standard output, on which a command leaves its result: what becomes of one that cannot be written."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(Exception):
    """The result cannot be written; the text says why.

    No OSError, as click and rich end the process by themselves for some of those, each with a status of its own.
    """


class ReaderGoneError(OutputError):
    """Whoever read the result has seen enough, as with `| head`."""


class _Output(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGoneError("its reader is gone") from error
        except OSError as error:
            closed = error.errno == errno.EBADF
            raise OutputError("standard output is closed" if closed else error.strerror) from error


def watch_output() -> None:
    """From now on what cannot be written to standard output raises OutputError, also where there is none at all.

    A stream that has taken the place of standard output is left as it is.
    """
    stdout = sys.stdout
    if stdout is not sys.__stdout__:
        return
    if stdout is None:
        # Open for reading alone, so that writing fails: without it, the next file opened would take its number.
        output, like = os.open(os.devnull, os.O_RDONLY), sys.stderr
    else:
        stdout.flush()
        output, like = stdout.fileno(), stdout
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(output, "w", closefd=False)),
        encoding=like.encoding if like else "utf-8",
        errors=stdout.errors if stdout else "strict",
        line_buffering=bool(stdout and stdout.line_buffering),
        write_through=bool(stdout and stdout.write_through),
    )


def discard_output() -> None:
    """Let what is left of the result go nowhere, instead of failing once more when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
