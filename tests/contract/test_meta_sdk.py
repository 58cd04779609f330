"""Meta's own client against the sandbox, and its hashes against ours.

The client is right about hashes where Meta's guide is followed; where it is not, the table of differences says how.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from facebook_business.exceptions import FacebookRequestError

from app.domain.normalization import MetaKey, NormalizationOptions, Normalized, normalize_fields
from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.meta_sdk import MetaSdk, rows_sent
from tests.contract.sandbox_client import ACCOUNT, TOKEN, running, sha
from tests.unit.domain.normalization_cases import FIELDS_OF_KEY

LIST = {"name": "List", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"}
PEOPLE = [["u1", "Mary@Example.com"], ["u2", "john@example.com"]]
SCHEMA = ["EXTERN_ID", "EMAIL"]


async def test_an_audience_is_created_read_listed_and_deleted() -> None:
    async with running() as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        ids = [
            await asyncio.to_thread(sdk.create, ACCOUNT, **{**LIST, "name": f"List {number}"})
            for number in range(5)
        ]
        assert await asyncio.to_thread(sdk.ids, ACCOUNT, 2) == ids[::-1]
        read = await asyncio.to_thread(sdk.read, ids[3], "id", "name", "subtype", "operation_status")
        assert {name: read[name] for name in ("id", "name", "subtype")} == {
            "id": ids[3],
            "name": "List 3",
            "subtype": "CUSTOM",
        }
        assert set(read["operation_status"]) == {"code", "description"}
        await asyncio.to_thread(sdk.delete, ids[3])
        assert await asyncio.to_thread(sdk.ids, ACCOUNT, 2) == [ids[4], *ids[2::-1]]


@pytest.mark.parametrize("hashed", [False, True], ids=["in the clear", "hashed before"])
async def test_people_are_added_and_removed(hashed: bool) -> None:
    rows = [[who, sha(mail.lower()) if hashed else mail] for who, mail in PEOPLE]
    expected = [{"EXTERN_ID": who, "EMAIL": sha(mail.lower())} for who, mail in PEOPLE]
    async with running() as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        audience = await asyncio.to_thread(sdk.create, ACCOUNT, **LIST)
        added = await asyncio.to_thread(sdk.add, audience, SCHEMA, rows, pre_hashed=hashed)
        assert (added["audience_id"], added["num_received"], added["num_invalid_entries"]) == (audience, 2, 0)
        assert await client.members(audience) == expected
        removed = await asyncio.to_thread(sdk.remove, audience, ["EXTERN_ID"], [["u1"]])
        assert removed["num_received"] == 1
        assert await client.members(audience) == expected[1:]


async def test_people_are_added_by_e_mail_alone() -> None:
    async with running() as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        audience = await asyncio.to_thread(sdk.create, ACCOUNT, **LIST)
        await asyncio.to_thread(sdk.add, audience, "EMAIL_SHA256", [" Mary@example.com "])
        (member,) = await client.members(audience)
        assert list(member.values()) == [sha("mary@example.com")]


async def test_everybody_is_replaced() -> None:
    async with running() as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        audience = await asyncio.to_thread(sdk.create, ACCOUNT, **LIST)
        await asyncio.to_thread(sdk.add, audience, SCHEMA, [["old", "old@example.com"]])
        batches = [[person] for person in PEOPLE]
        answers = await asyncio.to_thread(sdk.replace, audience, SCHEMA, batches, 9778993)
        assert [(one["num_received"], one["session_id"]) for one in answers] == [
            (1, "9778993"),
            (2, "9778993"),
        ]
        assert await client.members(audience) == [
            {"EXTERN_ID": who, "EMAIL": sha(mail.lower())} for who, mail in PEOPLE
        ]
        read = await asyncio.to_thread(sdk.read, audience, "operation_status")
        assert read["operation_status"]["code"] == 200
        [session] = await asyncio.to_thread(sdk.sessions, audience, 9778993)
        assert (session["num_received"], session["session_id"]) == ("2", "9778993")


async def test_a_person_is_removed_from_all_audiences_of_an_account() -> None:
    async with running() as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        ids = [await asyncio.to_thread(sdk.create, ACCOUNT, **LIST) for _ in range(2)]
        for audience in ids:
            await asyncio.to_thread(sdk.add, audience, SCHEMA, PEOPLE)
        await asyncio.to_thread(sdk.remove_everywhere, ACCOUNT, ["EXTERN_ID"], [["u1"]])
        for audience in ids:
            assert [one["EXTERN_ID"] for one in await client.members(audience)] == ["u2"]


async def test_the_proof_of_the_client_is_accepted_and_a_wrong_one_refused() -> None:
    options = SandboxOptions(app_secret="secret", require_proof=True)
    async with running(options) as client:
        good = MetaSdk(client.sandbox.base_url, TOKEN, "secret")
        assert await asyncio.to_thread(good.ids, ACCOUNT, 10) == []
        for secret in ("wrong", None):
            with pytest.raises(FacebookRequestError) as caught:
                await asyncio.to_thread(MetaSdk(client.sandbox.base_url, TOKEN, secret).ids, ACCOUNT, 10)
            assert caught.value.api_error_code() == 100


async def test_an_error_is_one_that_the_client_reads() -> None:
    async with running(SandboxOptions(tokens=(AccessToken(TOKEN),))) as client:
        sdk = MetaSdk(client.sandbox.base_url, TOKEN)
        with pytest.raises(FacebookRequestError) as caught:
            await asyncio.to_thread(sdk.read, "4711", "id")
        error = caught.value
        assert (error.http_status(), error.api_error_code(), error.api_error_subcode()) == (400, 100, 33)
        with pytest.raises(FacebookRequestError) as caught:
            await asyncio.to_thread(MetaSdk(client.sandbox.base_url, "EAAwrong").ids, ACCOUNT, 10)
        assert caught.value.api_error_code() == 190


# --- hashes ---

# Where the client does what Meta's guide says.
AGREED = [
    ("EMAIL", " Mary@Example.com"),
    ("EMAIL", "mary.jones+news@example.co.uk"),
    ("PHONE", "+1 (650) 555-1212"),
    ("PHONE", "+44 844 412 4653"),
    ("PHONE", "15559876543"),
    ("GEN", "Female"),
    ("GEN", "m"),
    ("DOBY", "1987"),
    ("DOBM", "7"),
    ("DOBM", "12"),
    ("DOBD", "3"),
    ("FN", "Mary"),
    ("FN", "Jean-Luc"),
    ("FN", "Mary Ann"),
    ("LN", "O'Brien"),
    ("LN", "van der Berg"),
    ("FI", "M"),
    ("CT", "St. Louis"),
    ("CT", "New York"),
    ("ST", "CA"),
    ("ST", "Bayern"),
    ("ZIP", "94035"),
    ("ZIP", "94035-1234"),
    ("ZIP", "75018"),
    ("COUNTRY", "US"),
    ("EXTERN_ID", "user-0042"),
]
# key, input, what the client hashes, what we hash or None for a blank, and why ours is what the guide asks for
DIFFERENCES: list[tuple[str, str, str, str | None, str]] = [
    (
        "EMAIL",
        "mary@example.com.",
        "mary@example.com",
        None,
        "the end dot is no part of an address: it is refused",
    ),
    ("PHONE", "0044 20 7946 0958", "00442079460958", "442079460958", "leading zeros go"),
    ("PHONE", "+49 (0)30 901820", "49030901820", "4930901820", "nobody dials the zero after a country code"),
    (
        "PHONE",
        "+33 1 42 68 53 00 ext. 7",
        "331426853007",
        "33142685300",
        "an extension is no part of the number",
    ),
    ("GEN", "nonbinary", "n", None, "there is m and f alone"),
    ("DOBM", "July", "", "07", "an English name is a month"),
    ("DOBM", "13", "13", None, "no month"),
    ("FN", "Valéry", "valry", "valéry", "names are UTF-8"),
    ("LN", "Иванов", "", "иванов", "names are of all alphabets"),
    ("FI", "Mary", "mary", "m", "one letter"),
    ("ST", "California", "california", "ca", "a state of the United States is its code"),
    ("CT", "São Paulo", "sopaulo", "saopaulo", "accents are taken off, letters stay"),
    ("ZIP", "M1 1AE", "m1 1ae", "m11ae", "no blanks"),
    ("ZIP", "01310-100", "01310", "01310100", "only codes of the United States end at the dash"),
    ("COUNTRY", "United States", "un", "us", "ISO 3166-1"),
]


def ours(key: str, text: str) -> str | float | None:
    name, *part = FIELDS_OF_KEY[key]
    fields: dict[str, Any] = {name: {part[0]: text} if part else text}
    outcome = normalize_fields(fields, NormalizationOptions(today_year=2026)).get(MetaKey(key))
    return outcome.value if isinstance(outcome, Normalized) else None


def theirs(key: str, text: str) -> str:
    ((sent,),) = rows_sent([key], [[text]])
    return sent


@pytest.mark.parametrize(("key", "text"), AGREED)
def test_one_person_is_one_hash(key: str, text: str) -> None:
    assert ours(key, text) == theirs(key, text)


@pytest.mark.parametrize(("key", "text", "client_s", "our", "why"), DIFFERENCES)
def test_differences_are_those_that_are_known(
    key: str, text: str, client_s: str, our: str | None, why: str
) -> None:
    assert theirs(key, text) == sha(client_s)
    assert ours(key, text) == (None if our is None else sha(our)), why
    assert ours(key, text) != theirs(key, text)


def test_the_client_hashes_advertising_ids_and_changes_external_ids_which_must_not_be() -> None:
    mobile = "AB1234CD-E123-12FG-J123-000000000000"
    assert (theirs("MADID", mobile), ours("MADID", mobile)) == (sha(mobile.lower()), mobile.lower())
    assert (theirs("EXTERN_ID", "User-0042"), ours("EXTERN_ID", "User-0042")) == ("user-0042", "User-0042")


@pytest.mark.parametrize("key", sorted(set(FIELDS_OF_KEY) - {"EXTERN_ID", "LOOKALIKE_VALUE"}))
def test_the_client_sends_the_hash_of_nothing_for_a_blank_and_we_nothing(key: str) -> None:
    assert theirs(key, "") == sha("")
    assert ours(key, "") is None
