"""Worlds of delivery, made by each test as it needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.unit.pipeline.delivery_world import World, makes
from tests.unit.pipeline.paused_world import PausedWorld
from tests.unit.pipeline.replaced_world import ReplacedWorld


@pytest.fixture
async def worlds() -> AsyncIterator[Callable[..., World]]:
    async with makes(World) as make:
        yield make


@pytest.fixture
async def paused_worlds() -> AsyncIterator[Callable[..., PausedWorld]]:
    async with makes(PausedWorld) as make:
        yield make


@pytest.fixture
async def replaced_worlds() -> AsyncIterator[Callable[..., ReplacedWorld]]:
    async with makes(ReplacedWorld) as make:
        yield make
