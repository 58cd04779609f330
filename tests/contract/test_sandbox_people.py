"""Uploads of people: what is refused whole, what row by row, and who is a member afterwards."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.sandbox.options import SandboxOptions
from app.sandbox.validation import HASHED_KEYS
from tests.contract.sandbox_client import A, B, C, D, running

MISMATCH = "(#100) Data is missing or does not match schema"


def _compact(row: Any) -> str:
    return orjson.dumps(row).decode()


async def test_the_answer_of_an_upload() -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, ["EXTERN_ID", "EMAIL", "FN"], ["u1", A, ""], ["u2", B, C])
        assert answer == {
            "audience_id": audience,
            "session_id": answer["session_id"],
            "num_received": 2,
            "num_invalid_entries": 0,
            "invalid_entry_samples": {},
        }
        assert await client.members(audience) == [
            {"EXTERN_ID": "u1", "EMAIL": A},
            {"EXTERN_ID": "u2", "EMAIL": B, "FN": C},
        ]


async def test_ten_thousand_rows_pass_and_one_more_does_not() -> None:
    rows = [[f"u{number}"] for number in range(10_001)]
    async with running() as client:
        audience = await client.create()
        answer = await client.users("POST", audience, ["EXTERN_ID"], rows)
        assert answer.error == (400, 1, 99)
        assert await client.members(audience) == []
        assert (await client.add(audience, ["EXTERN_ID"], *rows[1:]))["num_received"] == 10_000
        assert len(await client.members(audience)) == 10_000
        assert (await client.users("DELETE", audience, ["EXTERN_ID"], rows)).error == (400, 1, 99)
        assert len(await client.members(audience)) == 10_000


async def test_the_code_for_too_many_rows_is_a_switch() -> None:
    async with running(SandboxOptions(max_rows=1, too_many_rows="invalid parameter")) as client:
        audience = await client.create()
        assert (await client.users("POST", audience, ["EXTERN_ID"], [["u"], ["v"]])).error == (400, 100, None)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("schema", "data"),
    [
        pytest.param(["EXTERN_ID"], [], id="no rows"),
        pytest.param(["EXTERN_ID"], None, id="no data"),
        pytest.param(["EXTERN_ID"], "u1", id="data is a text"),
        pytest.param(["EXTERN_ID"], {"0": ["u1"]}, id="data is an object"),
        pytest.param(["EXTERN_ID"], ["u1"], id="a row is a text"),
        pytest.param(["EXTERN_ID"], [["u1"], "u2"], id="one row is a text"),
        pytest.param(["EXTERN_ID", "EMAIL"], [["u1", A], ["u2"]], id="one row is too short"),
        pytest.param(["EXTERN_ID"], [["u1"], ["u2", A]], id="one row is too long"),
        pytest.param(["EXTERN_ID"], [["u1"], [["u2"]]], id="one cell is a list"),
        pytest.param(["EXTERN_ID"], [["u1"], [{}]], id="one cell is an object"),
        pytest.param([], [[]], id="empty schema"),
        pytest.param(None, [["u1"]], id="no schema"),
        pytest.param([["EXTERN_ID"]], [["u1"]], id="schema of lists"),
    ],
)
async def test_data_that_does_not_match_refuses_the_whole_request(
    method: str, schema: Any, data: Any
) -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["u1", A])
        answer = await client.users(method, audience, schema, data)
        assert (answer.error, answer.body["error"]["message"]) == ((400, 100, None), MISMATCH)
        assert await client.members(audience) == [{"EXTERN_ID": "u1", "EMAIL": A}]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="no payload"),
        pytest.param({"payload": "{"}, id="payload is broken JSON"),
        pytest.param({"payload": [1]}, id="payload is a list"),
        pytest.param(
            {"payload": {"schema": ["EXTERN_ID", "SHOE_SIZE"], "data": [["u", "9"]]}}, id="unknown key"
        ),
        pytest.param({"payload": {"schema": ["email"], "data": [[A]]}}, id="key in lower case"),
        pytest.param(
            {"payload": {"schema": ["EMAIL_SHA256"], "data": [[A]]}}, id="single-style key in an array"
        ),
        pytest.param({"payload": {"schema": ["EMAIL", "EMAIL"], "data": [[A, B]]}}, id="key twice"),
        pytest.param(
            {"payload": {"schema": ["APPUID"], "data": [["1"]]}}, id="app-scoped ids without app_ids"
        ),
        pytest.param(
            {"payload": {"schema": ["PAGEUID"], "data": [["1"]], "page_ids": [1]}}, id="page ids not raw"
        ),
        pytest.param(
            {"payload": {"schema": ["EMAIL", "LOOKALIKE_VALUE"], "data": [[A, 1]]}},
            id="value in a plain list",
        ),
    ],
)
async def test_parameters_that_are_wrong(body: dict[str, Any]) -> None:
    async with running() as client:
        audience = await client.create()
        assert (await client.call("POST", f"{audience}/users", json=body)).error == (400, 100, None)
        assert await client.members(audience) == []


@pytest.mark.parametrize(
    ("schema", "row", "reason"),
    [
        pytest.param(
            ["EXTERN_ID", "EMAIL"], ["", A], "empty external ID", id="blank external id, recorded text"
        ),
        pytest.param(["EXTERN_ID", "EMAIL"], ["  ", A], "empty external ID", id="external id of blanks"),
        pytest.param(["EXTERN_ID", "EMAIL"], ["", ""], "empty external ID", id="all blank, with external id"),
        pytest.param(["EMAIL", "FN"], ["", ""], "empty row", id="all blank"),
        pytest.param(["EMAIL"], ["ann@example.com"], "invalid hash in EMAIL", id="clear text"),
        pytest.param(["EMAIL"], [A.upper()], "invalid hash in EMAIL", id="upper-case hash"),
        pytest.param(["EMAIL"], [A[:-1]], "invalid hash in EMAIL", id="63 signs"),
        pytest.param(["EMAIL"], [A + "0"], "invalid hash in EMAIL", id="65 signs"),
        pytest.param(["EMAIL"], [A[:-1] + "g"], "invalid hash in EMAIL", id="no hex"),
        pytest.param(["EMAIL"], [A[:30] + "  " + A[32:]], "invalid hash in EMAIL", id="blanks inside"),
        pytest.param(["EMAIL"], [" " * 64], "invalid hash in EMAIL", id="64 blanks"),
        pytest.param(["EMAIL"], ["\u0661" * 64], "invalid hash in EMAIL", id="digits of another script"),
        pytest.param(["PHONE"], [16505551212], "invalid hash in PHONE", id="number"),
        pytest.param(["EMAIL", "PHONE"], [A, None], "invalid hash in PHONE", id="null is not blank"),
        pytest.param(["EXTERN_ID"], [7], "invalid EXTERN_ID", id="external id as a number"),
        pytest.param(["MADID"], [" "], "invalid MADID", id="advertising id of blanks"),
        pytest.param(
            ["EMAIL", "DATA_PROCESSING_OPTIONS"],
            [A, ["XYZ"]],
            "invalid DATA_PROCESSING_OPTIONS",
            id="unknown processing option",
        ),
        pytest.param(
            ["EMAIL", "DATA_PROCESSING_OPTIONS_COUNTRY"],
            [A, "US"],
            "invalid DATA_PROCESSING_OPTIONS_COUNTRY",
            id="processing country as a text",
        ),
        pytest.param(["DATA_PROCESSING_OPTIONS"], [["LDU"]], "empty row", id="an option without a person"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_bad_row_is_counted_and_the_others_are_applied(
    method: str, schema: list[str], row: list[Any], reason: str
) -> None:
    good = [
        {"EXTERN_ID": "good", "MADID": "good", "DATA_PROCESSING_OPTIONS_COUNTRY": 1}.get(key, D)
        for key in schema
    ]
    if "DATA_PROCESSING_OPTIONS" in schema:
        schema, row, good = [*schema, "MADID"], [*row, ""], [*good, "good"]
        good[schema.index("DATA_PROCESSING_OPTIONS")] = ["LDU"]
    async with running() as client:
        audience = await client.create()
        await client.add(audience, schema, good)
        before = await client.members(audience)
        answer = (await client.users(method, audience, schema, [row, good])).body
        assert (answer["num_received"], answer["num_invalid_entries"]) == (2, 1)
        assert answer["invalid_entry_samples"] == {_compact(row): reason}
        assert await client.members(audience) == (before if method == "POST" else [])


async def test_one_bad_hash_does_not_make_up_for_another() -> None:
    short, long = A[:-1], B + "0"
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, ["EMAIL"], [short], [long], [C])
        assert set(answer["invalid_entry_samples"]) == {_compact([short]), _compact([long])}


async def test_a_sample_is_the_row_as_it_was_sent() -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, ["EXTERN_ID", "EMAIL", "LN"], ["", 'Zoë "x"/y', ""])
        assert answer["invalid_entry_samples"] == {'["","Zoë \\"x\\"/y",""]': "empty external ID"}


@pytest.mark.parametrize("key", sorted(HASHED_KEYS))
async def test_every_hashed_key_is_checked(key: str) -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, [key], ["clear"], [A])
        assert answer["invalid_entry_samples"] == {'["clear"]': f"invalid hash in {key}"}
        assert await client.members(audience) == [{key: A}]


def test_which_keys_are_hashed() -> None:
    clear = "EXTERN_ID MADID"
    order = "EXTERN_ID EMAIL PHONE GEN DOBY DOBM DOBD LN FN FI CT ST ZIP MADID COUNTRY"
    assert set(order.split()) - set(clear.split()) == HASHED_KEYS


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        pytest.param(["MADID"], ["ab1234cd-e123-12fg-j123-000000000000"], id="advertising id"),
        pytest.param(["EXTERN_ID"], ["User-0042"], id="external id"),
        pytest.param(["EXTERN_ID"], ["Ünïcode 42"], id="external id in any letters"),
        pytest.param(["EMAIL", "DATA_PROCESSING_OPTIONS"], [A, ["LDU"]], id="limited data use"),
    ],
)
async def test_what_is_valid_in_clear(schema: list[str], row: list[Any]) -> None:
    async with running() as client:
        audience = await client.create()
        assert (await client.add(audience, schema, row))["num_invalid_entries"] == 0
        assert await client.members(audience) == [dict(zip(schema, row, strict=True))]


async def test_limited_data_use_row_as_documented() -> None:
    schema = ["EMAIL", *(f"DATA_PROCESSING_OPTIONS{part}" for part in ("", "_COUNTRY", "_STATE"))]
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, schema, [A, ["LDU"], 1, 1000], [B, [], 0, 0])
        assert answer["num_invalid_entries"] == 0
        assert (await client.members(audience))[1] == {"EMAIL": B, schema[2]: 0, schema[3]: 0}


async def test_at_most_a_hundred_samples_are_shown() -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, ["EMAIL"], *([f"bad {number}"] for number in range(150)), [A])
        assert (answer["num_received"], answer["num_invalid_entries"]) == (151, 150)
        assert list(answer["invalid_entry_samples"]) == [f'["bad {number}"]' for number in range(100)]


async def test_empty_samples_may_be_a_list() -> None:
    async with running(SandboxOptions(empty_samples_as_list=True)) as client:
        audience = await client.create()
        assert (await client.add(audience, ["EMAIL"], [A]))["invalid_entry_samples"] == []
        assert (await client.add(audience, ["EMAIL"], ["x"]))["invalid_entry_samples"] == {
            '["x"]': "invalid hash in EMAIL"
        }


async def test_values_belong_to_value_based_lists() -> None:
    schema = ["EMAIL", "LOOKALIKE_VALUE"]
    async with running() as client:
        audience = await client.create(is_value_based=1)
        answer = await client.add(audience, schema, [A, 44.5], [B, 0], [C, -1], [D, "44.5"], [D, True])
        assert set(answer["invalid_entry_samples"]) == {
            _compact(row) for row in ([C, -1], [D, "44.5"], [D, True])
        }
        assert await client.members(audience) == [
            {"EMAIL": A, "LOOKALIKE_VALUE": 44.5},
            {"EMAIL": B, "LOOKALIKE_VALUE": 0},
        ]
        assert (await client.users("POST", audience, ["EMAIL"], [[C]])).error == (400, 100, None)
        await client.remove(audience, ["EMAIL"], [A])
        assert await client.members(audience) == [{"EMAIL": B, "LOOKALIKE_VALUE": 0}]


async def test_the_single_key_style() -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.add(audience, "EMAIL_SHA256", A, [B], "nonsense")
        assert answer["invalid_entry_samples"] == {'"nonsense"': "invalid hash in EMAIL_SHA256"}
        assert await client.members(audience) == [{"EMAIL_SHA256": A}, {"EMAIL_SHA256": B}]
        await client.remove(audience, "EMAIL_SHA256", A)
        assert await client.members(audience) == [{"EMAIL_SHA256": B}]


@pytest.mark.parametrize(
    ("first", "second"), [(["EMAIL"], "EMAIL"), ("EMAIL", ["EMAIL"])], ids=["array", "single"]
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_the_two_schema_styles_never_mix(first: Any, second: Any, method: str) -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, first, [A])
        answer = await client.users(method, audience, second, [[B]])
        assert answer.error == (400, 2650, None)
        message = answer.body["error"]["message"]
        assert "FILE_IMPORTED.MULTI_HASHES" in message
        assert "FILE_IMPORTED.HASHES_OR_USER_IDS" in message
        assert await client.members(audience) == [{"EMAIL": A}]


async def test_num_received_adds_up_inside_a_session() -> None:
    async with running() as client:
        audience, other = await client.create(), await client.create()

        async def received(
            batch: int, rows: int, *, of: str = audience, session_id: int | str = 9778993
        ) -> Any:
            session = {"session_id": session_id, "batch_seq": batch, "last_batch_flag": False}
            answer = await client.users("POST", of, ["EXTERN_ID"], [["u"]] * rows, session=session)
            return answer.body["num_received"], answer.body["session_id"]

        assert await received(1, 2) == (2, "9778993")
        assert await received(2, 3) == (5, "9778993")
        assert await received(1, 1, session_id="8") == (1, "8")
        assert await received(1, 1, of=other) == (1, "9778993")
        assert (await client.add(audience, ["EXTERN_ID"], ["u"]))["num_received"] == 1


async def test_without_a_session_the_server_names_one_by_method_and_schema() -> None:
    async with running() as client:
        first, second = await client.create(), await client.create()
        adds = {(await client.add(one, ["EMAIL"], [A]))["session_id"] for one in (first, second, first)}
        other_schema = (await client.add(first, ["PHONE"], [A]))["session_id"]
        removal = (await client.remove(first, ["EMAIL"], [A]))["session_id"]
        assert len(adds) == 1
        assert len({*adds, other_schema, removal}) == 3
        assert all(isinstance(one, str) and int(one) > 2**53 for one in (*adds, other_schema, removal))


@pytest.mark.parametrize(
    "session",
    [
        pytest.param({}, id="no id"),
        pytest.param({"session_id": 0}, id="id not positive"),
        pytest.param({"session_id": 2**63}, id="id beyond 64 bits"),
        pytest.param({"session_id": "x"}, id="id no number"),
        pytest.param({"session_id": True}, id="id a boolean"),
        pytest.param({"session_id": 1, "batch_seq": 0}, id="batches count from 1"),
        pytest.param({"session_id": 1, "last_batch_flag": "no"}, id="flag no boolean"),
        pytest.param({"session_id": 1, "estimated_num_total": -1}, id="negative estimate"),
        pytest.param([1], id="no object"),
    ],
)
async def test_a_wrong_session_refuses_the_request(session: Any) -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.users("POST", audience, ["EMAIL"], [[A]], session=session)
        assert answer.error == (400, 100, None)
        assert await client.members(audience) == []


async def test_no_answer_of_the_api_holds_members() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["somebody", A])
        for path in (audience, f"{audience}/users", "act_1/customaudiences", "_sandbox/audiences"):
            answer = await client.call("GET", path)
            assert "somebody" not in answer.text
            assert A not in answer.text
