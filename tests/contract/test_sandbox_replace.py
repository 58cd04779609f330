"""Replacing everybody in an audience of the sandbox, by the API's rules for sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sandbox.options import SandboxOptions
from app.sandbox.replacing import ReplaceOptions
from tests.contract.sandbox_client import Answer, SandboxClient, running, sha

SCHEMA = ["EXTERN_ID", "EMAIL"]
MINUTE = 60


async def send(
    client: SandboxClient, audience: str, seq: int, *people: str, last: bool = False, **more: Any
) -> Answer:
    session = {"session_id": more.get("session", 7), "batch_seq": seq, "last_batch_flag": last}
    schema = more.get("schema", SCHEMA)
    cells: dict[str, Callable[[str], str]] = {"EXTERN_ID": str, "EMAIL": sha, "PHONE": lambda _: ""}
    data = [[cells[key](who) for key in schema] for who in people]
    body = {"payload": {"schema": schema, "data": data}, "session": session}
    return await client.call("POST", f"{audience}/usersreplace", json=body)


async def who_is_in(client: SandboxClient, audience: str) -> set[str]:
    return {member["EXTERN_ID"] for member in await client.members(audience)}


async def status(client: SandboxClient, audience: str) -> int:
    return int((await client.read(audience, "operation_status"))["operation_status"]["code"])


async def filled(client: SandboxClient) -> str:
    audience = await client.create()
    await client.add(audience, ["EXTERN_ID"], ["old"])
    return audience


async def test_everybody_is_replaced_when_the_last_batch_has_come() -> None:
    async with running() as client:
        audience = await filled(client)
        first = await send(client, audience, 1, "ann")
        assert (first.status, first.body["num_received"], first.body["session_id"]) == (200, 1, "7")
        assert (await status(client, audience), await who_is_in(client, audience)) == (414, {"old"})
        assert (await send(client, audience, 3, "cid")).body["num_received"] == 2
        assert (await send(client, audience, 2, "bob", last=True)).body["num_received"] == 3
        assert (await status(client, audience), await who_is_in(client, audience)) == (
            200,
            {"ann", "bob", "cid"},
        )


async def test_a_batch_that_comes_again_changes_nothing_but_batch_1_is_refused() -> None:
    async with running() as client:
        audience = await filled(client)
        await send(client, audience, 1, "ann")
        await send(client, audience, 2, "bob")
        assert (await send(client, audience, 2, "eve")).status == 200, (
            "known by its number, whatever it holds"
        )
        assert (await send(client, audience, 1, "ann")).error == (400, 2650, 1870145)
        await send(client, audience, 3, "cid", last=True)
        assert await who_is_in(client, audience) == {"ann", "bob", "cid"}
        assert (await send(client, audience, 1, "ann")).error == (400, 2650, 1870159)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_people_change_no_other_way_meanwhile(method: str) -> None:
    async with running(SandboxOptions(replace=ReplaceOptions(seconds=60))) as client:
        audience = await filled(client)
        await send(client, audience, 1, "ann", last=True)
        assert (await status(client, audience), await who_is_in(client, audience)) == (414, {"old"})
        assert (await client.users(method, audience, ["EXTERN_ID"], [["x"]])).error == (400, 2650, 1870145)
        assert (await send(client, audience, 1, "bob", session=8)).error == (400, 2650, 1870145)
        assert (await send(client, audience, 2, "bob")).error == (400, 2650, 1870159)
        await client.advance(60)
        assert await who_is_in(client, audience) == {"ann"}
        assert (await client.users(method, audience, ["EXTERN_ID"], [["x"]])).status == 200


@pytest.mark.parametrize("late_status", [200, 415])
async def test_after_ninety_minutes_it_is_who_arrived(late_status: int) -> None:
    async with running(SandboxOptions(replace=ReplaceOptions(late_status=late_status))) as client:
        audience = await filled(client)
        await send(client, audience, 1, "ann")
        await client.advance(89 * MINUTE)
        assert (await send(client, audience, 2, "bob")).status == 200
        await client.advance(MINUTE)
        assert (await send(client, audience, 3, "cid", last=True)).error == (400, 2650, 1870158)
        assert (await status(client, audience), await who_is_in(client, audience)) == (
            late_status,
            {"ann", "bob"},
        )


async def test_a_failure_leaves_who_was_there() -> None:
    async with running(SandboxOptions(replace=ReplaceOptions(fails=True))) as client:
        audience = await filled(client)
        refused = await send(client, audience, 1, "ann", last=True)
        assert refused.error == (400, 2650, 1870148)
        assert (await status(client, audience), await who_is_in(client, audience)) == (415, {"old"})
    late = ReplaceOptions(seconds=60, fails=True)
    async with running(SandboxOptions(replace=late)) as client:
        audience = await filled(client)
        assert (await send(client, audience, 1, "ann", last=True)).status == 200
        await client.advance(60)
        assert (await send(client, audience, 2, "bob")).error == (400, 2650, 1870148)
        assert (await status(client, audience), await who_is_in(client, audience)) == (415, {"old"})


async def test_an_audience_may_be_too_large_to_be_replaced() -> None:
    assert ReplaceOptions().max_people == 100_000_000
    async with running(SandboxOptions(replace=ReplaceOptions(max_people=2))) as client:
        audience = await filled(client)
        assert (await send(client, audience, 1, "ann", "bob", last=True)).status == 200
        assert (await send(client, audience, 1, "cid", last=True, session=8)).error == (400, 2650, 1870144)
        assert await who_is_in(client, audience) == {"ann", "bob"}


async def test_a_replace_is_a_session_that_can_be_read() -> None:
    async with running() as client:
        audience = await filled(client)
        await send(client, audience, 1, "ann", "bob")
        path = f"{audience}/sessions"
        [one] = (await client.call("GET", path, params={"session_id": "7"})).body["data"]
        assert (one["stage"], one["num_received"], one["end_time"]) == ("uploading", "2", "0")
        await send(client, audience, 2, "cid", last=True)
        [one] = (await client.call("GET", path, params={"session_id": "7"})).body["data"]
        assert (one["stage"], one["num_received"]) == ("completed", "3")


@given(st.data())
@settings(max_examples=40)
def test_any_order_and_any_repetition_of_later_batches_gives_the_same(data: st.DataObject) -> None:
    batches = {number: [f"p{number}", f"q{number}"] for number in range(2, 6)}
    sent = data.draw(st.lists(st.sampled_from(sorted(batches)), max_size=6)) + data.draw(
        st.permutations(sorted(batches))
    )

    async def run() -> set[str]:
        async with running() as client:
            audience = await filled(client)
            await send(client, audience, 1, "ann")
            for number in sent:
                assert (await send(client, audience, number, *batches[number])).status == 200
            assert (await send(client, audience, 6, "end", last=True)).status == 200
            return await who_is_in(client, audience)

    assert asyncio.run(run()) == {"ann", "end", *(who for people in batches.values() for who in people)}


async def test_what_is_refused() -> None:
    async with running() as client:
        audience = await filled(client)
        assert (await send(client, audience, 2, "ann")).error == (400, 2650, 1870147)
        await send(client, audience, 1, "ann")
        other = await send(client, audience, 2, "bob", schema=["EXTERN_ID", "EMAIL", "PHONE"])
        assert other.error == (400, 2650, None)
        payload = {"schema": SCHEMA, "data": [["a", ""]]}
        bare = await client.call("POST", f"{audience}/usersreplace", json={"payload": payload})
        assert bare.error == (400, 100, None)
        await send(client, audience, 2, "bob", last=True)
        assert await who_is_in(client, audience) == {"ann", "bob"}
        assert (await send(client, audience, 1, session=8)).error == (400, 100, None), "nobody"
        valued = await client.create(is_value_based=True)
        assert (await send(client, valued, 1, "ann")).error == (400, 2650, None)
