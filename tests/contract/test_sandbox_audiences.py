"""Audience objects: create, list, read, change, delete."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, FIXED, LIST, SandboxClient, running, sha


async def test_create_answers_an_id_and_nothing_else() -> None:
    async with running() as client:
        answer = await client.call("POST", LIST, json={"name": "A", "subtype": "CUSTOM"})
        assert list(answer.body) == ["id"]
        assert answer.body["id"].isdecimal()
        assert int(answer.body["id"]) > 2**53


async def test_two_creates_with_one_name_are_two_audiences() -> None:
    async with running() as client:
        assert await client.create("Same") != await client.create("Same")


async def test_create_can_answer_fields_of_the_new_audience() -> None:
    async with running() as client:
        answer = await client.call("POST", LIST, json={"name": "A", "fields": "name,subtype"})
        assert answer.body == {"id": answer.body["id"], "name": "A", "subtype": "CUSTOM"}


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({}, id="no name"),
        pytest.param({"name": " "}, id="blank name"),
        pytest.param({"name": "n" * 256}, id="a name over the limit"),
        pytest.param({"name": ["n"]}, id="a name that is no text"),
        pytest.param({"name": "n", "subtype": "custom"}, id="unknown subtype"),
        pytest.param({"name": "n", "customer_file_source": "ELSEWHERE"}, id="unknown file source"),
        pytest.param({"name": "n", "is_value_based": "perhaps"}, id="no boolean"),
        pytest.param({"name": "n", "retention_days": 0}, id="retention below a day"),
        pytest.param({"name": "n", "retention_days": 181}, id="retention over 180 days"),
        pytest.param({"name": "n", "opt_out_link": "not a link"}, id="no URL"),
        pytest.param({"name": "n", "opt_out_link": "http://[x"}, id="broken URL"),
        pytest.param({"name": "n", "subtype": "LOOKALIKE"}, id="a lookalike of nothing"),
        pytest.param(
            {
                "name": "n",
                "subtype": "LOOKALIKE",
                "origin_audience_id": "1",
                "lookalike_spec": {"ratio": 0.01},
            },
            id="a lookalike of an unknown audience",
        ),
        pytest.param({"name": "n", "fields": "nosuch"}, id="unknown field to answer"),
    ],
)
async def test_create_refuses(parameters: dict[str, Any]) -> None:
    async with running() as client:
        assert (await client.call("POST", LIST, json=parameters)).error == (400, 100, None)
        assert (await client.call("GET", LIST)).body == {"data": []}


async def test_an_account_holds_so_many_customer_lists() -> None:
    async with running(SandboxOptions(max_custom_audiences=2)) as client:
        await client.create(subtype="WEBSITE")
        first = await client.create()
        await client.create()
        assert (await client.call("POST", LIST, json={"name": "n"})).error == (400, 2654, None)
        await client.create(account="act_2")
        await client.call("DELETE", first)
        await client.create()


def test_the_limit_of_customer_lists_is_five_hundred() -> None:
    assert SandboxOptions().max_custom_audiences == 500


async def test_without_accepted_terms_nothing_is_written() -> None:
    refused = (400, 200, 1870090)
    options = SandboxOptions(accounts_without_terms=frozenset({"act_2"}))
    async with running(options) as client:
        answer = await client.call("POST", "act_2/customaudiences", json={"name": "n"})
        assert answer.error == refused
        assert answer.body["error"]["error_user_title"] == "Custom Audience Terms Not Accepted"
        audience = client.sandbox.state.create("act_2", {"name": "made before"}, 0.0).details.id
        assert (await client.call("POST", audience, json={"name": "n"})).error == refused
        assert (await client.users("POST", audience, ["EXTERN_ID"], [["u"]])).error == refused
        assert (await client.read(audience, "name"))["name"] == "made before"
        fields = {"fields": "tos_accepted"}
        assert (await client.call("GET", "act_2", params=fields)).body == {"tos_accepted": {}, "id": "act_2"}
        accepted = {"tos_accepted": {"custom_audience_tos": 1}, "id": ACCOUNT}
        assert (await client.call("GET", ACCOUNT, params=fields)).body == accepted


async def test_an_account_shows_known_fields_only() -> None:
    async with running() as client:
        answer = await client.call("GET", "act_9", params={"fields": "account_id,name"})
        assert answer.body == {"account_id": "9", "name": "Sandbox ad account 9", "id": "act_9"}
        answer = await client.call("GET", "act_9", params={"fields": "nosuch"})
        assert answer.error == (400, 100, None)
        assert answer.body["error"]["message"].endswith("field (nosuch) on node type (AdAccount)")


# Lists
async def _pages(client: SandboxClient, **params: Any) -> list[Any]:
    """All pages from the first, by following `next` as it was given."""
    pages = [(await client.call("GET", LIST, params=params)).body]
    while "next" in pages[-1].get("paging", {}):
        pages.append((await client.call("GET", pages[-1]["paging"]["next"].split("/v25.0/")[1])).body)
        assert len(pages) < 20
    return pages


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [(1, 2, [1]), (2, 2, [2]), (3, 2, [2, 1]), (4, 2, [2, 2]), (5, 1, [1] * 5), (26, None, [25, 1])],
    ids=["short page", "exactly one page", "short last page", "exact last page", "ones", "25 unless asked"],
)
async def test_pages_are_newest_first_and_end_without_next(
    count: int, limit: int | None, sizes: list[int]
) -> None:
    async with running() as client:
        ids = [await client.create() for _ in range(count)]
        pages = await _pages(client, **({} if limit is None else {"limit": limit}))
        assert [len(page["data"]) for page in pages] == sizes
        assert [one for page in pages for one in page["data"]] == [{"id": one} for one in reversed(ids)]
        assert all(page["paging"]["cursors"].keys() == {"before", "after"} for page in pages)
        assert ["previous" in page["paging"] for page in pages] == [False] + [True] * (len(pages) - 1)


async def test_an_empty_list_has_no_paging() -> None:
    async with running() as client:
        await client.create(account="act_2")
        assert (await client.call("GET", LIST)).body == {"data": []}


async def test_previous_leads_back() -> None:
    async with running() as client:
        for _ in range(5):
            await client.create()
        first, second, third = await _pages(client, limit=2)
        for page, before in ((third, second), (second, first)):
            link = page["paging"]["previous"].split("/v25.0/")[1]
            assert (await client.call("GET", link)).body["data"] == before["data"]


async def test_the_next_page_is_the_same_when_audiences_come_and_go() -> None:
    async with running() as client:
        ids = [await client.create() for _ in range(4)]
        first = (await client.call("GET", LIST, params={"limit": 2})).body
        await client.create("Newer")
        await client.call("DELETE", ids[2])  # the one the cursor was made for
        after = first["paging"]["cursors"]["after"]
        second = (await client.call("GET", LIST, params={"limit": 2, "after": after})).body
        assert [one["id"] for one in second["data"]] == [ids[1], ids[0]]


async def test_a_list_holds_foreign_subtypes_and_no_deleted_ones() -> None:
    async with running() as client:
        website = await client.create(subtype="WEBSITE")
        gone = await client.create()
        custom = await client.create()
        await client.call("DELETE", gone)
        answer = await client.call("GET", LIST, params={"fields": "id,subtype"})
        assert answer.body["data"] == [
            {"id": custom, "subtype": "CUSTOM"},
            {"id": website, "subtype": "WEBSITE"},
        ]


@pytest.mark.parametrize(
    "how", ["id,name", '["id","name"]', " id , name "], ids=["commas", "JSON text", "blanks"]
)
async def test_fields_may_be_named_in_several_ways(how: str) -> None:
    async with running() as client:
        audience = await client.create("A")
        answer = await client.call("GET", LIST, params={"fields": how})
        assert answer.body["data"] == [{"id": audience, "name": "A"}]


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"limit": "0"}, id="no page"),
        pytest.param({"limit": "-1"}, id="negative"),
        pytest.param({"limit": "many"}, id="no number"),
        pytest.param({"after": "nosuch"}, id="no cursor"),
        pytest.param({"before": "QUJD"}, id="another's cursor"),
        pytest.param({"fields": "nosuch"}, id="unknown field"),
        pytest.param({"filtering": "x"}, id="no filter"),
        pytest.param(
            {"filtering": '[{"field":"name","operator":"LIKE","value":"x"}]'}, id="unknown operator"
        ),
        pytest.param({"filtering": '[{"field":"name","operator":[],"value":"x"}]'}, id="operator is a list"),
        pytest.param(
            {"filtering": '[{"field":"nosuch","operator":"EQUAL","value":"x"}]'}, id="unknown filter field"
        ),
        pytest.param(
            {"filtering": '[{"field":"name","operator":"LESS_THAN","value":3}]'}, id="text against number"
        ),
    ],
)
async def test_a_list_refuses(params: dict[str, str]) -> None:
    async with running() as client:
        await client.create()
        assert (await client.call("GET", LIST, params=params)).error == (400, 100, None)


@pytest.mark.parametrize(
    ("field", "operator", "value", "names"),
    [
        ("operation_status.code", "IN", [410], ["empty"]),
        ("operation_status.code", "EQUAL", 200, ["filled"]),
        ("operation_status.code", "NOT_EQUAL", 200, ["empty"]),
        ("delete_time", "GREATER_THAN", 0, []),
        ("name", "STARTS_WITH", "fil", ["filled"]),
        ("name", "CONTAIN", "e", ["empty", "filled"]),
    ],
)
async def test_filtering(field: str, operator: str, value: Any, names: list[str]) -> None:
    async with running() as client:
        filled = await client.create("filled")
        await client.create("empty")
        await client.add(filled, ["EXTERN_ID"], ["u"])
        rule = orjson.dumps([{"field": field, "operator": operator, "value": value}]).decode()
        answer = await client.call("GET", LIST, params={"fields": "name", "filtering": rule})
        assert [one["name"] for one in answer.body["data"]] == names


# One audience
async def test_reading_shows_what_was_asked_and_the_id() -> None:
    async with running() as client:
        audience = await client.create("A", description="d", is_value_based="1", retention_days="30")
        assert (await client.call("GET", audience)).body == {"id": audience}
        assert await client.read(audience, "name", "description", "is_value_based", "retention_days") == {
            "id": audience,
            "name": "A",
            "description": "d",
            "is_value_based": True,
            "retention_days": 30,
        }


async def test_a_plain_list_read_in_full() -> None:
    async with running(SandboxOptions(now=lambda: FIXED)) as client:
        audience = await client.create("A", customer_file_source="USER_PROVIDED_ONLY")
        fields = [
            *("account_id", "name", "description", "subtype", "customer_file_source", "is_value_based"),
            *("retention_days", "approximate_count_lower_bound", "approximate_count_upper_bound"),
            *("time_created", "time_updated", "time_content_updated"),
            *("opt_out_link", "rule", "delete_time", "lookalike_audience_ids"),  # empty: left out
        ]
        seconds = int(FIXED.timestamp())
        assert await client.read(audience, *fields) == {
            "id": audience,
            "account_id": "1",
            "name": "A",
            "description": "",
            "subtype": "CUSTOM",
            "customer_file_source": "USER_PROVIDED_ONLY",
            "is_value_based": False,
            "retention_days": 0,
            "approximate_count_lower_bound": -1,
            "approximate_count_upper_bound": -1,
            "time_created": seconds,
            "time_updated": seconds,
            "time_content_updated": seconds,
        }


@pytest.mark.parametrize("field", ["nosuch", "approximate_count", "users", "people"])
async def test_an_unknown_field_is_refused(field: str) -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.call("GET", audience, params={"fields": f"id,{field}"})
        assert answer.error == (400, 100, None)
        expected = f"(#100) Tried accessing nonexisting field ({field}) on node type (CustomAudience)"
        assert answer.body["error"]["message"] == expected


async def test_an_audience_can_be_changed() -> None:
    async with running(SandboxOptions(now=lambda: FIXED)) as client:
        audience = await client.create("A", description="d")
        await client.advance(60)
        answer = await client.call("POST", audience, json={"name": "B"})
        assert answer.body == {"success": True}
        node = await client.read(audience, "name", "description", "time_created", "time_updated")
        assert (node["name"], node["description"]) == ("B", "d")
        assert node["time_updated"] - node["time_created"] == 60
        await client.call("POST", audience, data={"description": ""})
        assert (await client.read(audience, "description"))["description"] == ""
        assert (await client.call("POST", audience, data={"name": ""})).error == (400, 100, None)
        assert (await client.read(audience, "name"))["name"] == "B"


async def test_an_audience_is_deleted_once() -> None:
    async with running() as client:
        audience = await client.create()
        assert (await client.call("DELETE", audience)).body == {"success": True}
        answer = await client.call("DELETE", audience)
        assert answer.error == (400, 100, 33)
        assert answer.body["error"]["type"] == "GraphMethodException"
        assert (await client.users("POST", audience, ["EXTERN_ID"], [["u"]])).error == (400, 100, 33)


async def test_the_seed_of_a_lookalike_cannot_be_deleted() -> None:
    async with running() as client:
        seed = await client.create()
        spec = {"type": "custom_ratio", "ratio": 0.01, "country": "US"}
        lookalike = await client.create(subtype="LOOKALIKE", origin_audience_id=seed, lookalike_spec=spec)
        assert (await client.read(seed, "lookalike_audience_ids"))["lookalike_audience_ids"] == [lookalike]
        assert (await client.call("DELETE", seed)).error == (400, 2656, None)
        assert (await client.users("POST", lookalike, ["EMAIL"], [[sha("a")]])).error == (400, 2650, None)
        await client.call("DELETE", lookalike)
        assert (await client.call("DELETE", seed)).body == {"success": True}
