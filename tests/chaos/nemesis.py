"""What goes wrong in a chaos run, drawn from a seed: workers, broker, sandbox, and definitions that are edited."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.faults import draw_fault
from tests.chaos.truth import ALWAYS, definitions, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.adapters.kafka_embedded import EmbeddedKafka
    from tests.integration.installation import Installation, WorkerProcess

SLOTS = ("one", "two")
# A worker that is frozen for longer than its session has lost its partitions when it wakes.
SESSION_SECONDS = 3


class Nemesis:
    """`act` does one thing at a time; `calm` puts everything right again."""

    def __init__(
        self,
        seed: int,
        installation: Installation,
        kafka: EmbeddedKafka,
        say: Callable[[str], None],
    ) -> None:
        self._chance = random.Random(seed)
        self._installation = installation
        self._kafka = kafka
        self._say = say
        self._workers: dict[str, WorkerProcess] = {}
        # One more that comes, and leaves or dies, at any time; it has no instance id.
        self._guest: WorkerProcess | None = None
        self._frozen: dict[str, float] = {}
        self._paused: set[str] = set()
        self.done: Counter[str] = Counter()
        self.own_exits: list[str] = []
        self.loyal, self.hats = 3, True

    def start(self) -> None:
        for slot in SLOTS:
            self._start(slot)

    def _start(self, slot: str) -> None:
        self._workers[slot] = self._installation.start_worker(instance=slot)

    @property
    def workers(self) -> list[WorkerProcess]:
        return [*self._workers.values(), *([] if self._guest is None else [self._guest])]

    def tend(self) -> None:
        """As a supervisor would: starts again whoever has ended; wakes whoever has been frozen long enough."""
        for slot, wakes_at in list(self._frozen.items()):
            if time.monotonic() >= wakes_at:
                self._wake(slot)
        for slot, worker in self._workers.items():
            if worker.process.poll() is not None:
                lines = worker.said.strip().splitlines()
                self.own_exits.append(lines[-1] if lines else f"status {worker.process.returncode}")
                self._start(slot)
        if self._guest is not None and self._guest.process.poll() is not None:
            lines = self._guest.said.strip().splitlines()
            self.own_exits.append(lines[-1] if lines else f"status {self._guest.process.returncode}")
            self._guest = None

    def _wake(self, slot: str) -> None:
        del self._frozen[slot]
        self._workers[slot].process.send_signal(signal.SIGCONT)

    def act(self) -> None:
        """One thing goes wrong."""
        name, action = self._chance.choice(
            [
                ("worker killed", self._kill),
                ("worker killed", self._kill),
                ("worker stopped and started", self._restart),
                ("worker frozen", self._freeze),
                ("worker frozen", self._freeze),
                ("worker joined, or left, or died", self._change_guest),
                ("worker joined, or left, or died", self._change_guest),
                ("broker killed", self._kill_broker),
                ("sandbox restarted", self._restart_sandbox),
                *[("Graph API", self._fault)] * 6,
                ("definitions edited", self._edit),
                ("audience paused", self._pause),
                ("audiences resumed", self._resume),
            ]
        )
        self._say(f"nemesis: {name}")
        action()
        if name != "Graph API":
            self.done[name] += 1

    def _slot(self) -> str | None:
        """One that runs."""
        awake = [slot for slot in SLOTS if slot not in self._frozen]
        return self._chance.choice(awake) if awake else None

    def _kill(self) -> None:
        if (slot := self._slot()) is not None:
            worker = self._workers[slot]
            worker.process.kill()
            worker.process.wait()
            self._start(slot)

    def _restart(self) -> None:
        if (slot := self._slot()) is not None:
            worker = self._workers[slot]
            if worker.process.poll() is None:
                worker.stop()
            self._start(slot)

    def _change_guest(self) -> None:
        if self._guest is None:
            self._guest = self._installation.start_worker()
        else:
            self._dismiss(self._chance.choice((signal.SIGTERM, signal.SIGKILL)))

    def _dismiss(self, number: signal.Signals) -> None:
        guest, self._guest = self._guest, None
        if guest is not None and guest.process.poll() is None:
            guest.stop(number)

    def _freeze(self) -> None:
        if (slot := self._slot()) is not None:
            self._workers[slot].process.send_signal(signal.SIGSTOP)
            self._frozen[slot] = time.monotonic() + self._chance.uniform(0.5, 3 * SESSION_SECONDS)

    def _kill_broker(self) -> None:
        self._kafka.kill()
        time.sleep(self._chance.uniform(0, 3))
        self._kafka.start()

    def _restart_sandbox(self) -> None:
        self._installation.stop_sandbox()
        time.sleep(self._chance.uniform(0, 2))
        self._installation.start_sandbox()
        # A restart keeps people and audiences, not the faults.
        self.on_sandbox_restart()

    def on_sandbox_restart(self) -> None:
        """To be replaced by whoever has faults that must stay."""

    def _fault(self) -> None:
        name, respond, times = draw_fault(self._chance)
        self._installation.fault(respond, times=times, path="/users$")
        self.done[f"Graph API: {name}"] += 1

    def _edit(self) -> None:
        loyal, hats = self._chance.choice((2, 3, 4)), self._chance.random() < 0.7
        done = self._installation.apply(definitions(loyal, hats=hats), "--allow-delete")
        if done.returncode == 0:
            self.loyal, self.hats = loyal, hats
        else:
            self._say(
                f"nemesis: the edit was refused with status {done.returncode}: {done.stderr.strip()[-300:]}"
            )
            assert done.returncode == 3, "only an unreachable broker excuses a refusal"

    def _pause(self) -> None:
        key = key_of(self._chance.choice(ALWAYS))
        self._command("audiences", "pause", key)
        self._paused.add(key)

    def _resume(self) -> None:
        for key in sorted(self._paused):
            self._command("audiences", "resume", key, "--accept-shrink")
        self._paused.clear()

    def _command(self, *arguments: str) -> None:
        done = self._installation.command(*arguments)
        assert done.returncode == 0, done.stderr

    def calm(self) -> None:
        """Everybody is awake and runs, and the Graph API does what it should."""
        for slot in list(self._frozen):
            self._wake(slot)
        self._dismiss(signal.SIGTERM)
        self.tend()
        self._resume()
        self._installation.clear_faults()
        self.on_sandbox_restart()
