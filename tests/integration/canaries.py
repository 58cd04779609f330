"""Looks for texts that must not be anywhere: in topics of ours, in what workers said, on their pages."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator

from tests.integration.installation import Installation, WorkerProcess
from tests.raw_requests import ask_badly

PAGES = ("/stats", "/metrics", "/health", "/ready", "/profiles/someone")


def internal_topics(installation: Installation) -> dict[str, bytes]:
    """Everything in each topic but the source: keys, values and headers, of aborted transactions too."""
    content = {}
    for spec in installation.catalog.all():
        if spec.ours:
            records = installation.records(spec.name, "read_uncommitted")
            content[spec.name] = b"\n".join(
                b"%b %b %r" % (record.key() or b"", record.value() or b"", record.headers())
                for record in records
            )
    return content


def pages_of(worker: WorkerProcess) -> Iterator[tuple[str, bytes]]:
    for path in PAGES:
        request = urllib.request.Request(f"http://127.0.0.1:{worker.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                yield path, answer.read()
        except urllib.error.HTTPError as error:
            yield path, error.read()


def found_in(installation: Installation, canaries: Iterable[str], *alive: WorkerProcess) -> list[str]:
    """Which canary stands where, whatever its case."""
    places = internal_topics(installation)
    assert all(places[topic] for topic in written(installation)), "a search in empty topics finds nothing"
    canaries = tuple(canaries)
    for worker in alive:
        ask_badly(worker.port, canaries[0])
    for worker in alive:
        for path, page in pages_of(worker):
            assert page, path
            places[path] = page
    # Last: what has just been asked is in them, too.
    for number, worker in enumerate(installation.workers):
        places[f"log of worker {number}"] = worker.log.read_bytes()
    lowered = {place: content.lower() for place, content in places.items()}
    return sorted(
        f"{canary} in {place}"
        for place, content in lowered.items()
        for canary in canaries
        if canary.lower().encode() in content
    )


def written(installation: Installation) -> tuple[str, ...]:
    """The topics of ours that every run of the pipeline writes to."""
    catalog = installation.catalog
    return tuple(
        spec.name
        for spec in (
            catalog.profile_events,
            catalog.profiles_changelog,
            catalog.memberships,
            catalog.syncs,
            catalog.control,
        )
    )
