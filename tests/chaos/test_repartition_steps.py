"""`topics repartition` killed behind its other steps; those of the swap are in tests/integration/test_repartition_crashes.py."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.integration.repartitioning import (
    assert_run_again_behind,
    installation_of,
)

STEPS = {
    "copying": ("copying", "staging", "copied"),
    "later": ("created ProfileState, MessagePack", "deleted DeadLetter, JSON"),
    "finishing": ("finishing", "offsets", "cleaned"),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_killed_it_is_run_again(bootstrap_servers: str, topic_prefix: str, steps: tuple[str, ...]) -> None:
    with closing(installation_of(bootstrap_servers, topic_prefix)) as installation:
        assert_run_again_behind(installation, steps)
