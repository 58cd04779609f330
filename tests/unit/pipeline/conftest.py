"""Worlds of delivery, made by each test as it needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.unit.pipeline.delivery_world import World, makes


@pytest.fixture
async def worlds() -> AsyncIterator[Callable[..., World]]:
    async with makes(World) as make:
        yield make
