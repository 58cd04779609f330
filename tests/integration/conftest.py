"""Installations on the Kafka that all tests share, each with topics of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.audiences_of_traits import Make
from tests.integration.installation import Installation


@pytest.fixture
def make(bootstrap_servers: str) -> Iterator[Make]:
    """`make(audiences, **settings)`; all that it has made is closed afterwards."""
    made: list[Installation] = []

    def installation(audiences: str, **settings: str) -> Installation:
        prefix = f"test-{uuid.uuid4().hex[:12]}."
        made.append(Installation(bootstrap_servers, prefix, audiences, settings=settings))
        return made[-1]

    yield installation
    for each in made:
        each.close()
