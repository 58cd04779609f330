"""What a worker does again and again beside its stages."""

from __future__ import annotations

import pytest

from app.errors import FatalError, UnreachableError
from app.pipeline.watching import keep_doing


async def test_what_is_out_of_reach_is_tried_again_and_nothing_else_is() -> None:
    outcomes: list[Exception | None] = [UnreachableError("away"), None, FatalError("over")]
    done: list[Exception | None] = []

    async def step() -> None:
        outcome = outcomes[len(done)]
        done.append(outcome)
        if outcome is not None:
            raise outcome

    with pytest.raises(FatalError, match="over"):
        await keep_doing(step, 0)
    assert done == outcomes
