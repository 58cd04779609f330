"""Who is the same person in the sandbox, and who is removed by which keys."""

from __future__ import annotations

import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import DAY, FIXED, A, B, C, D, running


@pytest.mark.parametrize(
    ("schema", "first", "second", "members"),
    [
        pytest.param(
            ["EXTERN_ID", "FN"], ["u", A], ["u", B], [{"EXTERN_ID": "u", "FN": B}], id="by external id"
        ),
        pytest.param(
            ["EXTERN_ID", "FN"], ["u", A], ["u", ""], [{"EXTERN_ID": "u", "FN": A}], id="blank keeps"
        ),
        pytest.param(["EMAIL", "FN"], [A, B], [A, C], [{"EMAIL": A, "FN": C}], id="else by e-mail"),
        pytest.param(["PHONE", "FN"], [A, B], [A, C], [{"PHONE": A, "FN": C}], id="else by phone"),
        pytest.param(
            ["MADID", "FN"], ["m", B], ["m", C], [{"MADID": "m", "FN": C}], id="else by advertising id"
        ),
        pytest.param(["FN", "LN"], [A, B], [A, B], [{"FN": A, "LN": B}], id="names alone: the same row"),
        pytest.param(
            ["FN", "LN"], [A, B], [A, C], [{"FN": A, "LN": B}, {"FN": A, "LN": C}], id="names alone differ"
        ),
        pytest.param(
            ["EXTERN_ID", "EMAIL"],
            ["u", A],
            ["v", A],
            [{"EXTERN_ID": "u", "EMAIL": A}, {"EXTERN_ID": "v", "EMAIL": A}],
            id="a shared e-mail does not merge two ids",
        ),
        pytest.param(
            ["EMAIL", "PHONE"],
            [A, C],
            [B, C],
            [{"EMAIL": A, "PHONE": C}, {"EMAIL": B, "PHONE": C}],
            id="a shared phone does not merge two e-mails",
        ),
    ],
)
async def test_who_is_the_same_person(
    schema: list[str], first: list[str], second: list[str], members: list[dict[str, str]]
) -> None:
    async with running() as client:
        audience = await client.create()
        for row in (first, second, second):
            await client.add(audience, schema, row)
        assert await client.members(audience) == members


async def test_a_person_known_by_email_is_not_doubled_when_the_id_arrives() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EMAIL"], [A])
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["u", A])
        assert await client.members(audience) == [{"EMAIL": A, "EXTERN_ID": "u"}]
        await client.add(audience, ["EMAIL", "FN"], [A, B])
        assert await client.members(audience) == [{"EMAIL": A, "EXTERN_ID": "u", "FN": B}]


FULL = ["EXTERN_ID", "EMAIL", "PHONE", "MADID", "FN", "LN"]
PERSON = ["u", A, B, "m", C, D]


@pytest.mark.parametrize(
    ("schema", "row", "removed"),
    [
        pytest.param(["EXTERN_ID"], ["u"], True, id="external id alone"),
        pytest.param(["EMAIL"], [A], True, id="e-mail alone"),
        pytest.param(["PHONE"], [B], True, id="phone alone"),
        pytest.param(["MADID"], ["m"], True, id="advertising id alone"),
        pytest.param(FULL, PERSON, True, id="the whole row"),
        pytest.param(["FN", "LN"], [C, D], False, id="name parts never"),
        pytest.param(["EXTERN_ID"], ["v"], False, id="somebody absent"),
        pytest.param(["EMAIL"], [B], False, id="the phone's hash is no e-mail"),
        pytest.param(["EXTERN_ID", "EMAIL"], ["v", A], False, id="another person with this e-mail"),
    ],
)
async def test_who_is_removed(schema: list[str], row: list[str], removed: bool) -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, FULL, PERSON)
        answers = [await client.remove(audience, schema, row) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0]["num_invalid_entries"] == 0
        assert len(await client.members(audience)) == (0 if removed else 1)


async def test_names_alone_remove_nobody_not_even_the_same_row() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["FN", "LN"], [A, B])
        await client.remove(audience, ["FN", "LN"], [A, B])
        assert await client.members(audience) == [{"FN": A, "LN": B}]


async def test_repeating_a_removal_takes_nobody_else() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["u", A], ["v", A])
        for _ in range(2):
            await client.remove(audience, ["EXTERN_ID", "EMAIL"], ["u", A])
            assert await client.members(audience) == [{"EXTERN_ID": "v", "EMAIL": A}]


async def test_a_former_email_still_finds_the_person() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["u", A], ["u", B])
        assert await client.members(audience) == [{"EXTERN_ID": "u", "EMAIL": B}]
        await client.remove(audience, ["EMAIL"], [A])
        assert await client.members(audience) == []


@pytest.mark.parametrize(
    ("days", "schema", "row", "removed"),
    [
        pytest.param(89, ["EXTERN_ID"], ["u"], True, id="within 90 days"),
        pytest.param(90, ["EXTERN_ID"], ["u"], False, id="the mapping is gone"),
        pytest.param(90, ["EMAIL"], [A], True, id="the e-mail stays"),
        pytest.param(90, ["EXTERN_ID", "EMAIL"], ["u", A], True, id="the e-mail beside it helps"),
        pytest.param(90, ["EXTERN_ID", "EMAIL"], ["u", B], False, id="another e-mail does not"),
    ],
)
async def test_an_external_id_alone_removes_for_ninety_days(
    days: int, schema: list[str], row: list[str], removed: bool
) -> None:
    async with running(SandboxOptions(now=lambda: FIXED)) as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID", "EMAIL"], ["u", A])
        await client.advance(days * DAY)
        assert (await client.remove(audience, schema, row))["num_invalid_entries"] == 0
        assert len(await client.members(audience)) == (0 if removed else 1)


async def test_sending_an_external_id_again_renews_its_ninety_days() -> None:
    async with running() as client:
        audience = await client.create()
        for _ in range(2):
            await client.add(audience, ["EXTERN_ID"], ["u"])
            await client.advance(60 * DAY)
        await client.remove(audience, ["EXTERN_ID"], ["u"])
        assert await client.members(audience) == []


async def test_people_are_kept_apart_by_audience() -> None:
    async with running() as client:
        first, second = await client.create(), await client.create()
        for audience in (first, second):
            await client.add(audience, ["EXTERN_ID"], ["u"])
        await client.remove(first, ["EXTERN_ID"], ["u"])
        assert await client.members(first) == []
        assert await client.members(second) == [{"EXTERN_ID": "u"}]
