"""The process whose memory is measured: `python -m tests.bench.memory_process TEMPLATES PEOPLE`.

TEMPLATES is what `memory.write_templates` has written. One JSON object on stdout.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import msgspec
import orjson

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.errors import PermanentError
from app.wiring import EARLY_MS
from tests.bench.memory_people import AUDIENCES, Person, Records
from tests.bench.processes import PARTITIONS

# So many of those that have been loaded are looked at.
_LOOKED_AT = 50


def resident_bytes() -> int:
    """Resident set size of this process; Linux only."""
    fields = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS:"))


def read_templates(file: Path) -> list[tuple[Person, Records]]:
    return [
        (Person.of(number), records)
        for number, records in enumerate(msgspec.msgpack.decode(file.read_bytes(), type=list[Records]))
    ]


def empty_partitions() -> list[AudiencePartition]:
    plan = compile_audiences(read_definitions(AUDIENCES).audiences)
    return [AudiencePartition(plan, EARLY_MS, Counters()) for _ in range(PARTITIONS)]


def load(partitions: list[AudiencePartition], templates: list[tuple[Person, Records]], people: int) -> int:
    """As recovery does with what it reads from the changelog; returns how many bytes the records' values have."""
    size = 0
    for number in range(people):
        like, records = templates[number % len(templates)]
        person = Person.of(number)
        swaps = list(zip(like.raw, person.raw, strict=True))
        for place, (profile, value) in enumerate(zip(person.profiles, records, strict=True)):
            for theirs, own in swaps:
                value = value.replace(theirs, own)  # noqa: PLW2901 - one identifier after the other
            size += len(value)
            # One person's profiles lie in different partitions, all of which have equally many.
            partitions[(number + place) % PARTITIONS].load(profile.encode(), value)
    for partition in partitions:
        partition.finish_recovery()
    return size


def check(partitions: list[AudiencePartition], people: int) -> None:
    """Raises PermanentError when somebody is not there, whole."""
    for number in range(0, people, max(1, people // _LOOKED_AT)):
        person = Person.of(number)
        home = partitions[number % PARTITIONS]
        state = home.states.find(person.user)
        owners = [
            partitions[(number + place) % PARTITIONS].states.person(profile)
            for place, profile in enumerate(person.profiles)
        ]
        if (
            owners != [person.user] * 4
            or state is None
            or state.identity is None
            or set(state.identity.aliases) != set(person.profiles)
            or state.identifiers["EMAIL"].value != person.email_hash
            or not home.states.is_member("big_spenders", person.user)
        ):
            raise PermanentError(f"person {number} is not there as it was written")


def main(file: Path, people: int) -> None:
    templates, partitions = read_templates(file), empty_partitions()
    gc.collect()
    before = resident_bytes()
    size = load(partitions, templates, people)
    gc.collect()
    after = resident_bytes()
    check(partitions, people)
    print(
        orjson.dumps(
            {
                "people": people,
                "profiles": sum(len(p.states.resting) + len(p.states.forwarders) for p in partitions),
                "rss_before_bytes": before,
                "rss_after_bytes": after,
                "encoded_bytes": size,
            }
        ).decode()
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
