"""`make chaos`: a real Kafka, a Graph sandbox and two workers, to all of which things happen while calls come in.

    python -m tests.chaos [--seconds 600] [--seed N]

When it has calmed down, every Facebook audience must hold exactly the people that the calls make members, but for those
whose rows were refused for good; they, and every record that was no call, must have a dead letter each. Nor may there be
changes that are missing, said twice or too early (see tests.chaos.history). Exit status 0: so it was; 1: it was not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from app.adapters.kafka_client import DurableProducer, client_config
from app.adapters.kafka_embedded import EmbeddedKafka
from tests.chaos.faults import REFUSED
from tests.chaos.history import gaps, let_out_too_early, replayed_wrongly, said_members
from tests.chaos.nemesis import Nemesis
from tests.chaos.sent import Sent
from tests.chaos.stream import POISONED, Call, Stream, written
from tests.chaos.truth import definitions, key_of, members
from tests.integration.installation import Installation
from tests.integration.topic_records import read_records

CALLS_PER_SECOND = 80
# The last part of a run, in which no window ends for anybody and nothing new goes wrong.
QUIET_SHARE = 0.15
CALM_SECONDS = 240.0
MAX_WORKER_BYTES = 600 * 1024 * 1024
TICK_SECONDS = 0.1
# Nothing may change for so long.
REST_SECONDS = 4.0
MOST_MARKERS = 40
MOST_CLOCK_LAG = 10.0
MOST_SHOWN = 5


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def at_rest(stats: Any) -> list[Any] | None:
    """What a worker has done so far, None while it has something to do.

    Its own markers may be on their way at any moment, so that the lag of evaluate is hardly ever none on a busy machine.
    """
    if stats is None or not stats["worker"]["ready"] or stats.get("backfill"):
        return None
    stages = stats["stages"]
    destinations = [one for audience in stats["audiences"].values() for one in audience["destinations"]]
    is_idle = (
        stages["resolve"]["lag"] == stages["batch"]["lag"] == 0
        and stages["evaluate"]["lag"] is not None
        and stages["evaluate"]["lag"] < MOST_MARKERS
        and stats["clock_lag_seconds"] is not None
        and stats["clock_lag_seconds"] < MOST_CLOCK_LAG
        and all(one["state"] == "live" and one["pending"] == 0 for one in destinations)
    )
    return [stages[name][way] for name in sorted(stages) for way in ("in", "out")] if is_idle else None


def take_times(bootstrap_servers: str, topic: str) -> None:
    """Records of the topic say when the broker took them, not when they were made."""
    resource = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry(
                "message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET
            )
        ],
    )
    # The client must live until it has its answer.
    admin = AdminClient(client_config(bootstrap_servers))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


@dataclass(eq=False)
class Producing(threading.Thread):
    """Makes calls at a steady rate until it is told to stop; an unreachable broker only delays them."""

    stream: Stream
    producer: DurableProducer
    topic: str
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        started, made = time.monotonic(), 0
        while not self.stopping.wait(TICK_SECONDS):
            wanted = int((time.monotonic() - started) * CALLS_PER_SECOND)
            for _ in range(wanted - made):
                for record in self.stream.next(time.time_ns() // 1_000_000):
                    self.producer.produce(self.topic, record.value, record.key)
            made = wanted

    def finish(self) -> None:
        self.stopping.set()
        self.join()
        self.producer.flush()


class Chaos:
    """One run."""

    def __init__(self, seconds: float, seed: int, kafka: EmbeddedKafka) -> None:
        self._seconds = seconds
        self._chance = random.Random(seed + 1)
        self._installation = Installation(
            kafka.bootstrap_servers,
            f"chaos-{uuid.uuid4().hex[:8]}.",
            definitions(3, hats=True),
            settings={
                "AUDIENCE_SYNC_FACEBOOK_PROBE_SECONDS": "2",
                # Edits take out many at once here.
                "AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000",
                # So little finds room that destinations read the log again and again.
                "AUDIENCE_SYNC_BATCH_ROWS": "25",
            },
        )
        take_times(kafka.bootstrap_servers, self._installation.catalog.source_topic)
        self._nemesis = Nemesis(seed, self._installation, kafka, say)
        self._nemesis.on_sandbox_restart = self._poison
        self._nemesis.before_sandbox_restart = lambda: self._count(ends=True)
        self._sent = Sent()
        edges_end = time.time_ns() // 1_000_000 + int(seconds * (1 - QUIET_SHARE) * 1_000)
        # A few calls of each person, so that one more or less makes a difference.
        users = max(300, int(seconds * CALLS_PER_SECOND / 4))
        self._stream = Stream(seed, edges_end, users)
        # Those of the source topic, each with when the broker took it.
        self._calls: list[tuple[int, Call]] = []
        self._peak = 0

    def _poison(self) -> None:
        for user, respond in REFUSED.items():
            self._installation.fault(respond, path="/users$", row={"EXTERN_ID": user})

    def _count(self, *, ends: bool = False) -> None:
        self._sent.take(self._installation.sandbox_get("requests"), ends=ends)

    def run(self) -> bool:
        """Whether all is as it should be."""
        installation, nemesis = self._installation, self._nemesis
        try:
            self._poison()
            nemesis.start()
            self._await_workers()
            producing = Producing(
                self._stream,
                DurableProducer(installation.bootstrap_servers),
                installation.catalog.source_topic,
            )
            producing.start()
            started = time.monotonic()
            acts_at = started + 5
            while (now := time.monotonic()) < started + self._seconds * (1 - QUIET_SHARE):
                if now >= acts_at:
                    nemesis.act()
                    acts_at = time.monotonic() + self._chance.uniform(0.5, 6)
                self._tend()
            say("calm: everybody is put right, calls still come in")
            nemesis.calm()
            while time.monotonic() < started + self._seconds:
                self._tend()
            producing.finish()
            say("no more calls; waiting until the workers rest")
            self._rest()
            self._calls = self._written()
            return self._judge() and self._replay()
        except BaseException:
            self._keep_logs()
            raise
        finally:
            installation.close()

    def _await_workers(self) -> None:
        """A file that nobody has published before would be published in the midst of the edits."""
        deadline = time.monotonic() + CALM_SECONDS
        while not all(worker.ready() for worker in self._nemesis.workers):
            self._tend()
            assert time.monotonic() < deadline, "the workers have not started"

    def _tend(self) -> None:
        self._nemesis.tend()
        self._watch_memory()
        time.sleep(TICK_SECONDS)

    def _watch_memory(self) -> None:
        for worker in self._nemesis.workers:
            try:
                self._peak = max(self._peak, psutil.Process(worker.process.pid).memory_info().rss)
            except psutil.Error:
                continue

    def _rest(self) -> None:
        """Raises AssertionError when the workers do not come to rest."""
        deadline, rested_since, before = time.monotonic() + CALM_SECONDS, None, None
        while rested_since is None or time.monotonic() - rested_since < REST_SECONDS:
            self._tend()
            now = [at_rest(worker.stats()) for worker in self._nemesis.workers]
            if None in now or now != before:
                rested_since, before = None, now
            elif rested_since is None:
                rested_since = time.monotonic()
            if time.monotonic() > deadline:
                stats = [worker.stats() for worker in self._nemesis.workers]
                raise AssertionError(f"the workers have not come to rest: {stats}")

    def _written(self) -> list[tuple[int, Call]]:
        installation = self._installation
        topic = installation.catalog.source_topic
        records = read_records(
            installation.bootstrap_servers, topic, installation.source_partitions, "read_committed"
        )
        calls = written(
            self._stream.calls, ((record.timestamp()[1], record.value() or b"") for record in records)
        )
        say(f"calls in the source topic {len(calls):,}, of {len(self._stream.calls):,} that were made")
        return calls

    @property
    def _made(self) -> list[Call]:
        return [call for _, call in self._calls]

    # -- the judgement -----------------------------------------------------------------------------------------

    def _judge(self) -> bool:
        nemesis, stream = self._nemesis, self._stream
        expected = members(self._made, time.time_ns() // 1_000_000, nemesis.loyal, hats=nemesis.hats)
        found = self._installation.facebook_members()
        letters: dict[str, dict[str, Any]] = {
            letter["id"]: letter for letter in self._installation.dead_letters()
        }
        deltas = self._installation.memberships()
        lost, wrong = 0, 0
        for name, people in expected.items():
            there = found.get(name, set())
            missing, extra = people - set(POISONED) - there, there - people
            lost, wrong = lost + len(missing), wrong + len(extra)
            line = f"{name}: {len(people)} members, at Facebook {len(there)}"
            if missing or extra:
                said = said_members(deltas, key_of(name))
                line += f"; MISSING {sorted(missing)[:5]}, WRONG {sorted(extra)[:5]}"
                line += (
                    f"; by the topic of memberships missing {len(missing - said)}, wrong {len(extra & said)}"
                )
            say(line)
        history = [*gaps(deltas), *let_out_too_early(deltas, self._calls)]
        say(f"changes {len(deltas):,}; missing, twice or too early {len(history)}")
        complaints = [*self._complaints(expected, letters), *history[:MOST_SHOWN]]
        self._count()
        say(
            f"calls {len(stream.calls):,}, repeated {stream.repeated:,}, unusable {sum(stream.broken.values()):,}"
        )
        for name, times in sorted(nemesis.done.items()):
            say(f"  {name}: {times}")
        say(f"workers that ended by themselves: {len(nemesis.own_exits)}")
        for line in nemesis.own_exits:
            say(f"  {line}")
        sent = self._sent
        say(
            f"requests {sent.requests:,} {dict(sent.statuses)}; rows {sent.rows:,}, the same again {sent.again:,}"
        )
        say(f"dead letters {len(letters)}: {dict(Counter(letter['reason'] for letter in letters.values()))}")
        say(f"largest worker {self._peak / 2**20:.0f} MiB")
        for complaint in complaints:
            say(f"WRONG: {complaint}")
        say(f"lost {lost}, wrong {wrong}")
        good = not (lost or wrong or complaints)
        if not good:
            self._keep_logs()
        return good

    def _replay(self) -> bool:
        """With the cause removed, what was refused is sent again: nothing is missing any more."""
        say("the rows of the poisoned are accepted now; replaying their dead letters")
        self._installation.clear_faults()
        before, deltas = self._waiting(), self._installation.memberships()
        done = self._installation.command("dead-letters", "replay", "--stage", "deliver")
        if done.returncode:
            say(f"WRONG: the replay ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
            return False
        self._rest()
        nemesis = self._nemesis
        expected = members(self._made, time.time_ns() // 1_000_000, nemesis.loyal, hats=nemesis.hats)
        found = self._installation.facebook_members()
        differing = [name for name, people in expected.items() if found.get(name, set()) != people]
        wrong = [*replayed_wrongly(deltas, before, self._installation.dead_letters())]
        for complaint in wrong[:MOST_SHOWN]:
            say(f"WRONG: {complaint}")
        waiting = self._waiting()
        say(
            f"after the replay: audiences that differ {len(differing)}, letters of delivery that wait {len(waiting)}, "
            f"of {len(before)} replayed wrongly {len(wrong)}"
        )
        return not (differing or waiting or wrong)

    def _waiting(self) -> list[dict[str, Any]]:
        """The letters of delivery that nothing has become of yet."""
        letters = {letter["id"]: letter for letter in self._installation.dead_letters()}
        return [
            letter for letter in letters.values() if letter["stage"] == "deliver" and not letter["resolved"]
        ]

    def _complaints(self, expected: dict[str, set[str]], letters: dict[str, dict[str, Any]]) -> list[str]:
        complaints = []
        unusable = Counter(letter["reason"] for letter in letters.values() if letter["stage"] == "resolve")
        if unusable != self._stream.broken:
            complaints.append(
                f"dead letters of resolve {dict(unusable)}, should be {dict(self._stream.broken)}"
            )
        delivered = [letter for letter in letters.values() if letter["stage"] == "deliver"]
        others = sorted({letter["profile"] for letter in delivered} - set(POISONED))
        if others:
            complaints.append(f"rows of {others[:5]} were refused, which nothing is wrong with")
        refused = {(letter["audience"], letter["profile"]) for letter in delivered}
        for name, people in expected.items():
            key = key_of(name)
            silent = [user for user in people & set(POISONED) if (key, user) not in refused]
            if silent:
                complaints.append(f"{silent} are missing in {name} without a dead letter")
        if any(letter["stage"] == "evaluate" for letter in letters.values()):
            complaints.append("evaluate has dead letters")
        if self._peak > MAX_WORKER_BYTES:
            complaints.append(f"a worker had {self._peak:,} bytes")
        return complaints

    def _keep_logs(self) -> None:
        folder = Path("build", "chaos")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for log in Path(self._installation.folder.name).glob("*.log"):
            shutil.copy(log, folder)
        say(f"the workers' logs are in {folder}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    arguments = parser.parse_args()
    say(f"chaos for {arguments.seconds:.0f} s, seed {arguments.seed}")
    with EmbeddedKafka(report=say) as kafka:
        return 0 if Chaos(arguments.seconds, arguments.seed, kafka).run() else 1


if __name__ == "__main__":
    sys.exit(main())
