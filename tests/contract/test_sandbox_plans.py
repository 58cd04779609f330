"""Fault plans: errors by code, slow and cut bodies, usage that rises and falls, and what happens at the n-th request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from app.domain.delivery_errors import ERROR_ROWS
from app.sandbox.faults import FaultRule, Happens, Respond, Used
from app.sandbox.options import SandboxOptions
from app.sandbox.storage import load_state, save_state
from app.sandbox.switches import Switches
from tests.contract.sandbox_client import ACCOUNT, LIST, A, SandboxClient, running

CODES = sorted({(row.code, row.subcode) for row in ERROR_ROWS}, key=str)


@pytest.mark.parametrize(("code", "subcode"), CODES)
async def test_every_error_can_be_ordered_by_its_code(code: int, subcode: int | None) -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault(
            {"code": code, "message": "ordered words"} | ({} if subcode is None else {"subcode": subcode})
        )
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        error = answer.body["error"]
        assert answer.error[1:] == (code, subcode)
        assert 400 <= answer.status < 600
        assert error["message"] == "ordered words"
        assert error["fbtrace_id"] == answer.headers["x-fb-request-id"]
        again = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert again.body["error"]["fbtrace_id"] != error["fbtrace_id"]
        assert await client.members(audience) == []


@pytest.mark.parametrize(
    ("respond", "status"),
    [
        ({"code": 2}, 500),
        ({"code": 4}, 403),
        ({"code": 200}, 403),
        ({"code": 200, "subcode": 1870090}, 400),
        ({"code": 190, "status": 401}, 401),
    ],
)
async def test_an_error_has_the_status_it_was_seen_with(respond: dict[str, Any], status: int) -> None:
    async with running() as client:
        await client.fault({**respond, "is_transient": True})
        answer = await client.call("GET", LIST)
        assert (answer.status, answer.body["error"]["is_transient"]) == (status, True)


async def test_a_body_can_be_cut_in_the_middle_behind_the_write() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"cut_at": 12}, path="/users$", times=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert await client.members(audience) == [{"EXTERN_ID": "u"}]
        assert (await client.log(audience))[-1]["status"] is None
        assert (await client.add(audience, ["EXTERN_ID"], ["u"]))["num_received"] == 1


async def test_a_slow_body_comes_whole_and_one_can_be_slow_and_cut() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"slow_ms": 20}, path="/users$", times=1)
        assert (await client.add(audience, ["EXTERN_ID"], ["u"]))["audience_id"] == audience
        await client.fault({"slow_ms": 20, "cut_at": 5, "code": 2}, times=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.call("GET", LIST)
        # Slower than anybody waits: the write is applied all the same.
        await client.fault({"slow_ms": 600_000}, path="/users$", times=1)
        with pytest.raises(TimeoutError):
            await client.call(
                "POST",
                f"{audience}/users",
                json={"payload": {"schema": ["EXTERN_ID"], "data": [["v"]]}},
                timeout=aiohttp.ClientTimeout(total=0.3),
            )
        assert [one["EXTERN_ID"] for one in await client.members(audience)] == ["u", "v"]


async def test_usage_rises_and_recovers_as_ordered() -> None:
    async with running() as client:
        audience, other = await client.create(), await client.create(account="act_2")
        usage = {"percent": [50, 97.5, 30], "minutes_to_regain_access": 7, "reset_seconds": 11}
        await client.fault({"usage": usage}, account=ACCOUNT)

        async def read(who: str = audience) -> Any:
            header = (await client.call("GET", who)).headers["X-Business-Use-Case-Usage"]
            ((found,),) = orjson.loads(header).values()
            return found["call_count"], found["estimated_time_to_regain_access"]

        assert await read() == (50, 7)
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        header = orjson.loads(answer.headers["X-Ad-Account-Usage"])
        assert (header["acc_id_util_pct"], header["reset_time_duration"]) == (97.5, 11)
        assert [await read(), await read()] == [(30, 7), (30, 7)]
        assert await read(other) == (1, 0), "another account"


async def test_a_refusal_can_say_how_long_to_wait() -> None:
    async with running() as client:
        usage = {"percent": [100], "minutes_to_regain_access": 3}
        await client.fault({"code": 80003, "subcode": 2446079, "usage": usage})
        answer = await client.call("GET", LIST)
        assert answer.error == (400, 80003, 2446079)
        assert '"estimated_time_to_regain_access":3' in answer.headers["X-Business-Use-Case-Usage"]


async def test_given_rows_are_invalid_and_the_others_are_applied() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"invalid": "not to our taste"}, row={"EXTERN_ID": "b"})
        await client.fault({"invalid": "nor this"}, row={"EXTERN_ID": "c", "EMAIL": A})
        answer = await client.add(audience, ["EXTERN_ID", "EMAIL"], ["a", A], ["b", A], ["c", A], ["d", ""])
        assert (answer["num_received"], answer["num_invalid_entries"]) == (4, 2)
        assert answer["invalid_entry_samples"] == {
            json.dumps(["b", A], separators=(",", ":")): "not to our taste",
            json.dumps(["c", A], separators=(",", ":")): "nor this",
        }
        assert [one["EXTERN_ID"] for one in await client.members(audience)] == ["a", "d"]


async def test_a_fault_can_meet_an_ad_account_and_all_its_audiences() -> None:
    async with running() as client:
        audience, other = await client.create(), await client.create(account="act_2")
        await client.fault({"status": 599}, account=ACCOUNT)
        paths = (LIST, audience, f"{audience}/sessions", "act_2/customaudiences", other)
        assert [(await client.call("GET", path)).status for path in paths] == [599, 599, 599, 200, 200]


async def test_terms_are_withdrawn_at_the_third_request_and_accepted_again() -> None:
    async def tos(client: SandboxClient) -> Any:
        return (await client.call("GET", ACCOUNT, params={"fields": "tos_accepted"})).body["tos_accepted"]

    async with running() as client:
        audience = await client.create()
        await client.fault({"happens": {"terms_accepted": False}}, path="/users$", skip=2, times=1)
        statuses = [(await client.users("POST", audience, ["EXTERN_ID"], [["u"]])).status for _ in range(3)]
        assert statuses == [200, 200, 400]
        refused = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert refused.error == (400, 200, 1870090)
        assert await tos(client) == {}
        assert (await client.call("POST", "act_2/customaudiences", json={"name": "n"})).status == 200
        await client.fault({"happens": {"terms_accepted": True}}, times=1)
        assert await tos(client) == {"custom_audience_tos": 1}
        await client.add(audience, ["EXTERN_ID"], ["u"])


async def test_a_token_expires_and_is_good_again() -> None:
    async with running() as client:
        await client.fault({"happens": {"token_expired": True}}, times=1)
        assert (await client.call("GET", LIST)).error == (400, 190, 463)
        assert (await client.call("GET", LIST)).error == (400, 190, 463)
        other = await client.request("GET", f"/v25.0/{LIST}", params={"access_token": "another"})
        assert other.status == 200
        await client.fault({"happens": {"token_expired": False}}, times=1)
        assert (await client.call("GET", LIST)).status == 200


async def test_an_audience_is_deleted_when_people_are_sent_to_it() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"happens": {"audience_deleted": True}}, path="/users$", skip=1, times=1)
        await client.add(audience, ["EXTERN_ID"], ["u"])
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert answer.error == (400, 100, 33)
        assert (await client.call("GET", LIST)).body == {"data": []}


async def test_a_flagged_audience_can_be_read_and_nothing_else() -> None:
    async with running() as client:
        audience = await client.create("Ill people")
        await client.add(audience, ["EXTERN_ID"], ["u"])
        await client.fault({"happens": {"flagged": ["name"]}}, audience=audience, times=1)
        fields = ("operation_status", "fields_violating_integrity_policy", "name")
        read = await client.read(audience, *fields)
        assert (read["operation_status"]["code"], read["fields_violating_integrity_policy"]) == (
            471,
            ["name"],
        )
        people = {"payload": {"schema": ["EXTERN_ID"], "data": [["v"]]}}
        session = {"session": {"session_id": 1, "batch_seq": 1, "last_batch_flag": True}}
        refused = [
            await client.call("POST", f"{audience}/users", json=people),
            await client.call("DELETE", f"{audience}/users", json=people),
            await client.call("POST", f"{audience}/usersreplace", json={**people, **session}),
        ]
        assert {answer.error for answer in refused} == {(400, 100, 1713230)}
        edited = await client.call("POST", audience, json={"name": "People"})
        assert edited.error == (400, 100, 1713228)
        like = {"name": "Like", "subtype": "LOOKALIKE", "origin_audience_id": audience}
        answer = await client.call("POST", LIST, json={**like, "lookalike_spec": {"ratio": 0.01}})
        assert answer.error == (400, 100, 1713232)
        assert await client.members(audience) == [{"EXTERN_ID": "u"}]
        await client.fault({"happens": {"flagged": []}}, audience=audience, times=1)
        read = await client.read(audience, *fields)
        assert read["operation_status"]["code"] == 200
        assert "fields_violating_integrity_policy" not in read
        await client.add(audience, ["EXTERN_ID"], ["v"])


async def test_what_has_happened_survives_the_state_file(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    async with running() as client:
        audience = await client.create()
        await client.fault({"happens": {"flagged": ["name"], "terms_accepted": False}}, audience=audience)
        await client.call("GET", audience)
        save_state(file, client.sandbox.state, client.sandbox.clock)
    state, _ = load_state(file, SandboxOptions(now=lambda: datetime(2026, 1, 1, tzinfo=UTC)))
    kept = state.get(audience)
    assert kept is not None
    assert (kept.details.flagged, state.accounts_without_terms) == (["name"], {ACCOUNT})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"respond": {"subcode": 1}}, "code"),
        ({"respond": {"message": "x"}}, "code"),
        ({"respond": {"code": 1, "status": 400, "body": {}}}, "not both"),
        ({"respond": {"invalid": "x"}}, "row"),
        ({"respond": {"usage": {"percent": []}}}, "usage.percent"),
        ({"respond": {"cut_at": -1}}, "cut_at"),
        ({"respond": {"happens": {"terms": False}}}, "happens.terms"),
    ],
)
async def test_a_wrong_plan_is_refused_with_its_place(body: Any, where: str) -> None:
    async with running() as client:
        answer = await client.request("POST", "/_sandbox/faults", json=body)
        assert answer.status == 400
        assert where in answer.body["error"]


def test_the_manual_names_everything_that_can_be_ordered() -> None:
    page = Path("docs/operations.md").read_text()
    manual = page[page.index("## The stand-in of the Graph API") :]
    for model in (FaultRule, Respond, Happens, Used, Switches):
        for name in model.model_fields:
            assert f"`{name}`" in manual or f'"{name}"' in manual, name


# --- switches ---


async def switch(client: SandboxClient, **values: Any) -> Any:
    answer = await client.request("POST", "/_sandbox/switches", json=values)
    assert answer.status == 200, answer.text
    return answer.body


async def test_switches_change_a_running_sandbox() -> None:
    async with running() as client:
        audience = await client.create()
        before = (await client.request("GET", "/_sandbox/switches")).body
        after = await switch(client, min_people_left=1, empty_samples_as_list=True, calls_per_hour=20)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"min_people_left", "empty_samples_as_list", "calls_per_hour"}
        assert (await client.add(audience, ["EXTERN_ID"], ["u"]))["invalid_entry_samples"] == []
        refused = await client.users("DELETE", audience, ["EXTERN_ID"], [["u"]])
        assert refused.error == (400, 200, 1870047)
        for _ in range(18):
            answer = await client.call("GET", audience)
        assert answer.error == (400, 80003, 2446079)
        assert (await switch(client, calls_per_hour=None))["calls_per_hour"] is None
        await switch(
            client, min_people_left=0, replace_fails=True, ended_versions=["v25.0"], ended_version="refuse"
        )
        assert (await client.call("GET", audience)).error == (400, 2635, None)
        await switch(client, ended_versions=[])
        body = {
            "payload": {"schema": ["EXTERN_ID"], "data": [["v"]]},
            "session": {"session_id": 1, "batch_seq": 1, "last_batch_flag": True},
        }
        assert (await client.call("POST", f"{audience}/usersreplace", json=body)).error == (
            400,
            2650,
            1870148,
        )


async def test_a_secret_can_be_set_and_is_never_shown() -> None:
    async with running() as client:
        assert "top-secret" not in str(await switch(client, app_secret="top-secret", require_proof=True))
        assert (await client.call("GET", LIST)).error == (400, 100, None)
        await switch(client, app_secret=None)
        assert (await client.call("GET", LIST)).status == 200


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"tokens": []}, "tokens"),
        ({"tier": "gold"}, "tier"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_rows": None}, "max_rows cannot be null"),
        ({"versions": ["25"]}, "versions.0"),
    ],
)
async def test_a_wrong_switch_is_refused_and_changes_nothing(body: Any, where: str) -> None:
    async with running() as client:
        before = (await client.request("GET", "/_sandbox/switches")).body
        answer = await client.request("POST", "/_sandbox/switches", json={"min_people_left": 9, **body})
        assert (answer.status, where in answer.body["error"]) == (400, True), answer.text
        assert (await client.request("GET", "/_sandbox/switches")).body == before
