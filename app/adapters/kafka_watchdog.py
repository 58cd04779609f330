"""Runs one command that must not outlive the process that asked for it: `Watched` is the owner's side of it.

    python kafka_watchdog.py FOLDER COMMAND...

The other side is this file run as a script, so it needs the standard library alone. The owner holds the
write end of that process' stdin: the line "stop" ends the command with SIGTERM, the line "kill" with SIGKILL. The
end of that file means that the owner is gone, in whatever way it died (the kernel closes a killed process' pipes):
the command is killed and FOLDER, which nobody else would remove now, is deleted.

The first line on stdout is the command's pid; the command's own output goes to the watchdog's stderr. The exit
status is the command's, 128 + N when signal N ended it.

A pipe rather than PR_SET_PDEATHSIG on the command itself: that signal fires when the *thread* that started the
child ends, and the owner may start a broker from a short-lived thread. Here, with one thread at the moment of the
fork, it is safe, and it covers the case that the watchdog is killed; where there is no prctl, that case is open.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PR_SET_PDEATHSIG = 1

STOP_SECONDS = 7
"""How long a command may take to end after SIGTERM before it is killed; a broker needs half a second."""


class Watched:
    """A command under a watchdog, in a session of its own. Raises ChildProcessError when it cannot be started.

    `environment` is all that the command sees; None: nothing of the owner's, as JAVA_TOOL_OPTIONS and the like
    would change how a broker runs.
    """

    def __init__(
        self, command: list[str], folder: Path, log: IO[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the command is the owner's
            [sys.executable, "-I", "-S", __file__, str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8"} if environment is None else environment,
            start_new_session=True,
            bufsize=0,
        )
        try:
            first_line = self._process.stdout.readline() if self._process.stdout else b""
        except BaseException:
            self.end("kill")
            raise
        if not first_line:
            self.end("kill")
            raise ChildProcessError(command[0])
        self.pid = int(first_line)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float | None) -> int | None:
        """The exit status, None when the command still runs after `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self, how: Literal["stop", "kill"]) -> None:
        """Returns when the command is gone, killed if it did not end on "stop" in time."""
        for word in (how, "kill"):
            if not self._tell(word) or self.wait(STOP_SECONDS) is not None:
                break
        else:
            # The kernel takes the command along.
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _tell(self, word: str) -> bool:
        """False when the watchdog has ended already."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(f"{word}\n".encode())
        except BrokenPipeError:
            return False
        return True


def _die_with_the_watchdog() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _obey(child: subprocess.Popen[bytes], orphaned: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            child.terminate()
        elif line.strip() == "kill":
            child.kill()
    orphaned.set()
    child.kill()


def main() -> int:
    folder, *command = sys.argv[1:]
    child = subprocess.Popen(  # noqa: S603 - the command is the owner's
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_the_watchdog if sys.platform == "linux" else None,  # noqa: PLW1509 - no thread runs yet
    )
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    orphaned = threading.Event()
    threading.Thread(target=_obey, args=(child, orphaned), daemon=True).start()
    status = child.wait()
    if orphaned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
