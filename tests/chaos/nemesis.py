"""What goes wrong in a chaos run, drawn from a seed: workers, broker, sandbox, and definitions that are edited."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil

from tests.chaos.faults import draw_fault
from tests.chaos.truth import ALWAYS, NAMES, definitions, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.adapters.kafka_embedded import EmbeddedKafka
    from tests.integration.installation import Installation, WorkerProcess

SLOTS = ("one", "two")
# A worker that is frozen for longer than its session has lost its partitions when it wakes.
SESSION_SECONDS = 3
# Behind which a worker may end or freeze, see tests/integration/crashing_worker.py, and within how many of them.
STEPS = (
    "resolve.produce",
    "resolve.flush",
    *(
        f"{stage}.{step}"
        for stage in ("evaluate", "deliver")
        for step in ("produce", "flush", "offsets", "commit")
    ),
)
MOST_STEPS = 15
# What Kafka 4.1 says when its group coordinator has come back without what it had written itself: it lets nobody in
# again, until the broker is started anew.
OUT_OF_STEP = "is out of sync with the underlying log"


def _nothing() -> None:
    pass


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
        # Those that are to end or freeze behind a step of a commit; what they say when they do.
        self._armed: dict[str, str] = {}
        self._paused: set[str] = set()
        self.done: Counter[str] = Counter()
        self.own_exits: list[str] = []
        self.loyal, self.hats = 3, True
        # Of whoever has faults that must stay, and counts what has been sent.
        self.on_sandbox_restart: Callable[[], None] = _nothing
        self.before_sandbox_restart: Callable[[], None] = _nothing

    def start(self) -> None:
        for slot in SLOTS:
            self._start(slot)

    def _start(self, slot: str, at: tuple[str, int, signal.Signals] | None = None) -> None:
        self._armed.pop(slot, None)
        self._workers[slot] = self._installation.start_worker(instance=slot, at=at)

    @property
    def workers(self) -> list[WorkerProcess]:
        return [*self._workers.values(), *([] if self._guest is None else [self._guest])]

    def tend(self) -> None:
        """As a supervisor would: starts again whoever has ended; wakes whoever has been frozen long enough."""
        if OUT_OF_STEP in self._kafka._log():
            self._say("nemesis: Kafka's group coordinator is stuck, the broker is started again")
            self.done["broker started again, as its group coordinator was stuck"] += 1
            self._kafka.kill()
            self._kafka.start()
        for slot, wakes_at in list(self._frozen.items()):
            if time.monotonic() >= wakes_at:
                self._wake(slot)
        for slot, said in list(self._armed.items()):
            self._look_at_armed(slot, said)
        for slot, worker in self._workers.items():
            if worker.process.poll() is not None:
                lines = worker.said.strip().splitlines()
                self.own_exits.append(lines[-1] if lines else f"status {worker.process.returncode}")
                self._start(slot)
        if self._guest is not None and self._guest.process.poll() is not None:
            lines = self._guest.said.strip().splitlines()
            self.own_exits.append(lines[-1] if lines else f"status {self._guest.process.returncode}")
            self._guest = None

    def _look_at_armed(self, slot: str, said: str) -> None:
        """Whether it has come to its step: who is killed is started again without a word, who is frozen wakes later."""
        worker = self._workers[slot]
        if said not in worker.said:
            return
        if said.startswith("SIGKILL"):
            worker.process.wait()
            self._start(slot)
        elif psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED:
            del self._armed[slot]
            self._frozen[slot] = time.monotonic() + self._chance.uniform(1.5, 3) * SESSION_SECONDS

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
                ("worker to be killed within a commit", self._arm_to_die),
                ("worker to be killed within a commit", self._arm_to_die),
                ("worker to freeze within a commit", self._arm_to_freeze),
                ("worker to freeze within a commit", self._arm_to_freeze),
                ("worker joined, or left, or died", self._change_guest),
                ("worker joined, or left, or died", self._change_guest),
                ("broker killed", self._kill_broker),
                ("sandbox restarted", self._restart_sandbox),
                *[("Graph API", self._fault)] * 6,
                ("definitions edited", self._edit),
                ("audience paused", self._pause),
                ("audiences resumed", self._resume),
                ("dead letters replayed", self._replay),
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

    def _arm_to_die(self) -> None:
        self._arm(signal.SIGKILL)

    def _arm_to_freeze(self) -> None:
        self._arm(signal.SIGSTOP)

    def _arm(self, number: signal.Signals) -> None:
        """Its place is taken by one that comes to such an end by itself."""
        if (slot := self._slot()) is not None:
            worker = self._workers[slot]
            worker.process.kill()
            worker.process.wait()
            step = self._chance.choice(STEPS)
            self._start(slot, (step, self._chance.randint(2, MOST_STEPS), number))
            self._armed[slot] = f"{number.name} behind {step}"

    def _kill_broker(self) -> None:
        self._kafka.kill()
        time.sleep(self._chance.uniform(0, 3))
        self._kafka.start()

    def _restart_sandbox(self) -> None:
        self.before_sandbox_restart()
        self._installation.stop_sandbox()
        time.sleep(self._chance.uniform(0, 2))
        self._installation.start_sandbox()
        # A restart keeps people and audiences, not the faults.
        self.on_sandbox_restart()

    def _fault(self) -> None:
        name, fault, times = draw_fault(self._chance)
        self._installation.fault(fault.respond, times=times, path="/users$", **fault.matchers)
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
            is_early = "is still being filled" in done.stderr
            assert done.returncode == 3 or is_early, "nothing but an outage or a fill excuses a refusal"

    def _pause(self) -> None:
        key = key_of(self._chance.choice(ALWAYS))
        self._command("audiences", "pause", key)
        self._paused.add(key)

    def _resume(self) -> None:
        for key in sorted(self._paused):
            self._command("audiences", "resume", key, "--accept-shrink")
        self._paused.clear()

    def _replay(self) -> None:
        """The rows are refused again, but for those who have changed since."""
        self._command("dead-letters", "replay", "--stage", "deliver")

    def _command(self, *arguments: str) -> None:
        done = self._installation.command(*arguments)
        assert done.returncode == 0, done.stderr

    def calm(self) -> None:
        """Everybody is awake and runs, and the Graph API does what it should."""
        for slot in list(self._frozen):
            self._wake(slot)
        for slot in list(self._armed):
            # It may be frozen already.
            self._workers[slot].process.kill()
            self._workers[slot].process.wait()
            self._start(slot)
        self._dismiss(signal.SIGTERM)
        self.tend()
        self._resume()
        self._installation.clear_faults()
        self.on_sandbox_restart()
        # Whoever was told that its audience is gone looks again in an hour, or when a person asks for another one.
        for name in NAMES if self.hats else ALWAYS:
            self._command("audiences", "create", key_of(name))
