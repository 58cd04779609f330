"""States and sizes of audiences by who is in them."""

from __future__ import annotations

import pytest

from app.sandbox.nodes import bounds
from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import FIXED, SandboxClient, running


async def _state_of(client: SandboxClient, audience: str) -> tuple[int, int, int, int]:
    node = await client.read(
        audience,
        *("operation_status", "delivery_status"),
        *("approximate_count_lower_bound", "approximate_count_upper_bound"),
    )
    return (
        node["operation_status"]["code"],
        node["delivery_status"]["code"],
        node["approximate_count_lower_bound"],
        node["approximate_count_upper_bound"],
    )


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        pytest.param(0, (410, 300, -1, -1), id="new"),
        pytest.param(99, (200, 300, 1000, 1000), id="too small to deliver"),
        pytest.param(100, (200, 200, 1000, 1000), id="just large enough"),
        pytest.param(1000, (200, 200, 1000, 1000), id="still the privacy bucket"),
        pytest.param(1234, (200, 200, 1200, 1300), id="two digits"),
    ],
)
async def test_states_and_bounds_by_size(people: int, expected: tuple[int, int, int, int]) -> None:
    async with running() as client:
        audience = await client.create()
        if people:
            await client.add(audience, ["EXTERN_ID"], *([f"u{number}"] for number in range(people)))
        assert await _state_of(client, audience) == expected


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        (None, (-1, -1)),
        (0, (1000, 1000)),
        (1001, (1000, 1100)),
        (9999, (9900, 10000)),
        (123456, (120000, 130000)),
    ],
)
def test_bounds(people: int | None, expected: tuple[int, int]) -> None:
    assert bounds(people) == expected


async def test_an_upload_of_refused_rows_alone_is_no_match() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EMAIL"], ["no hash"])
        assert await _state_of(client, audience) == (410, 300, -1, -1)


async def test_the_size_counts_matched_people_and_never_rows() -> None:
    rows = [[f"u{number}"] for number in range(4000)]
    async with running(SandboxOptions(match_share=0.5)) as client:
        audience = await client.create()
        for _ in range(2):
            await client.add(audience, ["EXTERN_ID"], *rows)
        _, _, low, high = await _state_of(client, audience)
        assert 1800 <= low <= high <= 2200
        second = await client.create()
        await client.add(second, ["EXTERN_ID"], *reversed(rows))
        assert (await _state_of(client, second))[2:] == (low, high)  # the same people match every time
        await client.remove(audience, ["EXTERN_ID"], *rows)
        assert (await _state_of(client, audience))[2:] == (1000, 1000)


async def test_the_size_follows_after_its_delay() -> None:
    options = SandboxOptions(size_delay_seconds=600, now=lambda: FIXED)
    async with running(options) as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID"], *([f"u{number}"] for number in range(2000)))
        assert (await _state_of(client, audience))[0] == 410
        await client.advance(599)
        await client.add(audience, ["EXTERN_ID"], *([f"v{number}"] for number in range(2000)))
        assert (await _state_of(client, audience))[0] == 410
        await client.advance(1)
        assert await _state_of(client, audience) == (200, 200, 2000, 2000)
        await client.advance(599)
        assert await _state_of(client, audience) == (200, 200, 4000, 4000)
