"""`audience-sync demo` over tiny programs in place of Kafka, the sandbox and the worker. Run as a script:

    python demo_with_stand_ins.py STEP WHAT [OPTIONS OF THE COMMAND...]

Every step starts a program that would run for a minute. At STEP the demo waits for a minute (WHAT is "wait") or fails
("fail"). Without such a step the system holds what SQL expects ("agree") or one member more ("differ").
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

from app.commands import demo, main
from app.commands.demo_events import Call, Order
from app.commands.demo_oracle import QUERIES
from app.commands.demo_processes import Program, WorkerSlot, clean_environment
from app.commands.demo_progress import Totals
from app.commands.demo_replay import Held, Holdings
from app.errors import PermanentError

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
STEP, WHAT = sys.argv[1:3]


class StandInSystem:
    bootstrap_servers = "127.0.0.1:1"

    def __init__(self, folder: Path, kill_every: float | None, report: Callable[[str], None]) -> None:
        del kill_every, report
        self._folder = folder
        self._programs: list[Program] = []
        self.worker = WorkerSlot(self._program("worker"), lambda: True, None, lambda _line: None)

    def _program(self, name: str) -> Program:
        return Program(name, [sys.executable, "-c", STUBBORN], clean_environment({}), self._folder)

    def _step(self, name: str) -> None:
        self._programs.append(self._program(name))
        self._programs[-1].start()
        self._programs[-1].await_line("up")
        if name != STEP:
            return
        print(f"at {name} in {self._folder}", file=sys.stderr, flush=True)
        if WHAT == "fail":
            raise PermanentError(f"no {name} today{self._programs[-1].last_lines()}")
        time.sleep(60)

    def start_kafka(self) -> None:
        self._step("kafka")

    def fill(self, calls: Iterable[Call]) -> int:
        self._step("fill")
        return len(list(calls))

    def start_sandbox(self) -> None:
        self._step("sandbox")

    def start_worker(self) -> None:
        self._step("start")

    def tend(self, *, may_kill: bool) -> None:
        del may_kill
        if STEP == "tend":
            self._step("tend")

    def urls(self) -> dict[str, str]:
        return {"worker": "http://127.0.0.1:1/stats"}

    def stop(self) -> None:
        for program in self._programs:
            program.stop()


class StandInReplay:
    seconds = 1.0
    totals = Totals()

    def __init__(self, system: StandInSystem, show: Callable[[Totals], None]) -> None:
        del show
        self._system = system

    def run(self) -> Holdings:
        self._system.tend(may_kill=True)
        nobody = Held(0, 0, ())
        buyers = Held(1, 1, ["1"]) if WHAT != "differ" else Held(2, 2, ["1", "2"])
        held = dict.fromkeys(QUERIES, nobody) | {"bought_in_the_last_30_days": buyers}
        return Holdings(time.time_ns() // 1_000_000, held)


if __name__ == "__main__":
    stand_ins = {
        "DemoSystem": StandInSystem,
        "Replay": StandInReplay,
        "load_orders": lambda: [Order("1", date(1998, 6, 30), 1, 100)],
    }
    for name, stand_in in stand_ins.items():
        setattr(demo, name, stand_in)
    sys.argv[1:] = ["demo", *sys.argv[3:]]
    main()
