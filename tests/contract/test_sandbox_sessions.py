"""Sessions of uploads, removals from all lists of an account, and lists that must not become too small."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, A, B, running


@pytest.mark.parametrize("how", ["last batch", "time"])
async def test_what_comes_late_in_a_session_is_discarded(how: str) -> None:
    async with running() as client:
        audience = await client.create()

        async def send(batch: int, who: str, *, last: bool = False, method: str = "POST") -> Any:
            session = {"session_id": 7, "batch_seq": batch, "last_batch_flag": last}
            answer = await client.users(method, audience, ["EXTERN_ID"], [[who]], session=session)
            assert answer.status == 200, answer.text
            return answer.body["num_received"]

        assert await send(1, "ann") == 1
        await client.advance(90 * 60 - 1)
        assert await send(2, "bob", last=how == "last batch") == 2
        await client.advance(1 if how == "time" else 0)
        # Neither a new batch nor a first one once more; nobody is told.
        assert [await send(3, "cid"), await send(1, "dan")] == [2, 2]
        assert [one["EXTERN_ID"] for one in await client.members(audience)] == ["ann", "bob"]
        # Removals have sessions of their own, and are done however late they come.
        assert await send(4, "ann", last=True, method="DELETE") == 1
        assert await send(5, "bob", method="DELETE") == 2
        assert await client.members(audience) == []


async def test_the_state_of_sessions_is_told_in_texts() -> None:
    fixed = datetime(2026, 1, 1, tzinfo=UTC)
    begin = int(fixed.timestamp())
    async with running(SandboxOptions(now=lambda: fixed)) as client:
        audience, other = await client.create(), await client.create()

        async def send(session_id: int, *rows: list[str], last: bool, of: str = audience) -> None:
            session = {"session_id": session_id, "batch_seq": 1, "last_batch_flag": last}
            await client.users("POST", of, ["EXTERN_ID"], list(rows), session=session)

        async def sessions(**params: str) -> Any:
            return (await client.call("GET", f"{audience}/sessions", params=params)).body["data"]

        assert await sessions() == []
        await send(7, ["ann"], [""], last=False)
        await send(9, ["x"], last=True, of=other)
        await client.advance(60)
        await send(8, ["bob"], last=True)
        uploading = {
            "session_id": "7",
            "start_time": str(begin),
            "end_time": "0",
            "num_received": "2",
            "num_matched": "-1",
            "num_invalid_entries": "1",
            "progress": "0",
            "stage": "uploading",
        }
        done = await sessions(session_id="8")
        assert [(one["session_id"], one["end_time"], one["num_matched"]) for one in done] == [
            ("8", str(begin + 60), "2")
        ]
        assert await sessions(session_id="7") == [uploading]
        assert [one["session_id"] for one in await sessions()] == ["8", "7"]
        assert await sessions(session_id="9") == [], "another audience's"
        assert await sessions(session_id="7", fields="stage") == [{"stage": "uploading"}]
        answer = await client.call("GET", f"{audience}/sessions", params={"fields": "members"})
        assert answer.error == (400, 100, None)
        await client.advance(90 * 60)
        assert (await sessions(session_id="7"))[0]["end_time"] == str(begin + 90 * 60)


async def test_people_are_removed_from_all_lists_of_their_account_and_no_other() -> None:
    async with running() as client:
        first, second = await client.create(), await client.create()
        elsewhere = await client.create(account="act_2")
        for audience in (first, second, elsewhere):
            await client.add(audience, ["EXTERN_ID", "EMAIL"], ["ann", A], ["bob", B])
        body = {"payload": {"schema": ["EMAIL"], "data": [[A], ["no hash"]]}}
        answer = await client.call("DELETE", f"{ACCOUNT}/usersofanyaudience", json=body)
        assert answer.status == 200, answer.text
        assert (answer.body["num_received"], answer.body["num_invalid_entries"]) == (2, 1)
        left = [[one["EXTERN_ID"] for one in await client.members(each)] for each in (first, second)]
        assert left == [["bob"], ["bob"]]
        assert len(await client.members(elsewhere)) == 2
        wrong = await client.call("DELETE", f"{ACCOUNT}/usersofanyaudience", json={"payload": {}})
        assert wrong.error == (400, 100, None)


async def test_a_list_is_not_made_too_small_where_that_is_refused() -> None:
    async with running(SandboxOptions(min_people_left=2)) as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID"], ["a"], ["b"], ["c"])
        refused = await client.users("DELETE", audience, ["EXTERN_ID"], [["a"], ["b"]])
        assert refused.error == (400, 200, 1870047)
        assert refused.body["error"]["error_user_title"] == "Audience Size too Low"
        assert len(await client.members(audience)) == 3, "nothing of it is applied"
        await client.remove(audience, ["EXTERN_ID"], ["a"], ["nobody"])
        assert len(await client.members(audience)) == 2
        await client.remove(audience, ["EXTERN_ID"], ["nobody"])
        small = await client.create()
        await client.remove(small, ["EXTERN_ID"], ["nobody"])
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID"], ["a"])
        await client.remove(audience, ["EXTERN_ID"], ["a"])
        assert await client.members(audience) == []
