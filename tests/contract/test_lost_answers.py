"""Every call of delivery whose answer is lost after it was applied: cut off, cut in the middle, or later than anybody waits.

The loop, the client and the clock are the real ones, against the sandbox.
"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.membership import Change
from tests.contract.sandbox_client import ACCOUNT, SandboxClient
from tests.contract.test_delivery_sandbox import Line, line
from tests.contract.test_replace_sandbox import wish

ENTER, EXIT = Change.ENTERED, Change.EXITED
# Seconds that a call is waited for here; and one that is answered later.
TIMEOUT = 0.5
LOST = [
    pytest.param({"drop": "after"}, id="cut off"),
    pytest.param({"cut_at": 9}, id="cut in the middle"),
    pytest.param({"slow_ms": 60_000}, id="too slow"),
]


async def made_audience(made: Line) -> str:
    await made.until(lambda: made.delivery.destinations()["vips"].facebook_id is not None)
    return str(made.delivery.destinations()["vips"].facebook_id)


async def met(client: SandboxClient) -> int:
    faults = (await client.request("GET", "/_sandbox/faults")).body
    return sum(int(fault["met"]) for fault in faults)


@pytest.mark.parametrize("respond", LOST)
async def test_of_adding(respond: dict[str, Any]) -> None:
    async with line(seconds=TIMEOUT) as made:
        await made_audience(made)
        await made.sandbox.fault(respond, method="POST", path="/users$", times=1)
        await made.send("ann", ENTER, {"EXTERN_ID": "ann"})
        assert await met(made.sandbox) == 1
        assert await made.members() == [{"EXTERN_ID": "ann"}]
        assert made.letters.letters == {}


@pytest.mark.parametrize("respond", LOST)
async def test_of_removing(respond: dict[str, Any]) -> None:
    async with line(seconds=TIMEOUT) as made:
        await made.send("ann", ENTER, {"EXTERN_ID": "ann"})
        await made.send("bob", ENTER, {"EXTERN_ID": "bob"})
        await made.sandbox.fault(respond, method="DELETE", path="/users$", times=1)
        await made.send("ann", EXIT, {"EXTERN_ID": "ann"})
        assert await met(made.sandbox) == 1
        assert await made.members() == [{"EXTERN_ID": "bob"}]
        assert made.letters.letters == {}


@pytest.mark.parametrize("respond", LOST)
async def test_of_creating_gives_one_audience(respond: dict[str, Any]) -> None:
    async with line(
        seconds=TIMEOUT, faults=[(respond, {"method": "POST", "path": "customaudiences$"})]
    ) as made:
        await made.send("ann", ENTER, {"EXTERN_ID": "ann"})
        assert await met(made.sandbox) == 1
        [audience] = (await made.sandbox.request("GET", "/_sandbox/audiences")).body
        assert audience["count"] == 1
        sent = [one for one in await made.sandbox.log() if one["method"] == "POST"]
        assert len([one for one in sent if one["path"].endswith("/customaudiences")]) == 1


@pytest.mark.parametrize("respond", LOST)
async def test_of_listing_what_was_created(respond: dict[str, Any]) -> None:
    """The answer to the creation is lost, and then that to the list that was to find the audience."""
    lost = ({"drop": "after"}, {"method": "POST", "path": "customaudiences$"})
    async with line(
        seconds=TIMEOUT, faults=[lost, (respond, {"method": "GET", "path": "customaudiences$"})]
    ) as made:
        await made.send("ann", ENTER, {"EXTERN_ID": "ann"})
        assert await met(made.sandbox) == 2
        [audience] = (await made.sandbox.request("GET", "/_sandbox/audiences")).body
        assert (audience["ad_account_id"], audience["count"]) == (ACCOUNT, 1)


@pytest.mark.parametrize("respond", LOST)
async def test_of_reading_is_no_reason_to_hold(respond: dict[str, Any]) -> None:
    async with line(seconds=TIMEOUT, status_seconds=0.05, status_after_sync_seconds=0.05) as made:
        audience = await made_audience(made)
        await made.sandbox.fault(respond, method="GET", path=f"/{audience}$", times=2)
        await made.send("ann", ENTER, {"EXTERN_ID": "ann"})
        await made.until(lambda: made.delivery.destinations()["vips"].lower_bound == 1000)
        assert await met(made.sandbox) == 2
        assert await made.members() == [{"EXTERN_ID": "ann"}]
        assert made.delivery.destinations()["vips"].reason is None


@pytest.mark.parametrize("respond", LOST)
@pytest.mark.parametrize("skip", [0, 1, 2], ids=["first batch", "second batch", "last batch"])
async def test_of_replacing(respond: dict[str, Any], skip: int) -> None:
    async with line(seconds=TIMEOUT, batch_rows=1, replace_poll_seconds=0.1) as made:
        names = ["ann", "bob", "cid"]
        for name in names:
            await made.send(name, ENTER, {"EXTERN_ID": name})
        audience = await made_audience(made)
        await made.sandbox.add(audience, ["EXTERN_ID"], ["stranger"])
        await made.sandbox.fault(respond, path="/usersreplace$", skip=skip, times=1)
        await wish(made)
        assert await met(made.sandbox) == 1
        assert sorted(one["EXTERN_ID"] for one in await made.members()) == names
        sessions = [
            one["body"]["session"]
            for one in await made.sandbox.log(audience)
            if one["path"].endswith("/usersreplace")
        ]
        firsts = [one["session_id"] for one in sessions if one["batch_seq"] == 1]
        assert len(firsts) == len(set(firsts)), "batch 1 is never sent again"
