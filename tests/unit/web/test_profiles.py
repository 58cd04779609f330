"""/profiles/{id}: what is answered, and what is never asked nor told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.explanation import Explainer
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.web.profiles import ProfileSource, profile_routes
from app.web.routes import not_found_route
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import HOUR, START, call
from topics.partitioning import partition_for

COUNT = 4
EMAIL_HASH = hashlib.sha256(b"ann@example.com").hexdigest()
DEFINITIONS = parse_definitions(
    [
        Document(
            "a.yaml", json.dumps({"audiences": [{"name": "Buyers", "when": {"event": "Order Completed"}}]})
        )
    ]
)


class Site:
    """The page of a worker that owns `owned` of the partitions; user_1 has bought and said an e-mail address."""

    def __init__(self) -> None:
        plan = compile_audiences(DEFINITIONS.audiences)
        self.partitions: dict[int, AudiencePartition] = {}
        for number in range(COUNT):
            place = Place(number, lambda profile: partition_for(profile.encode(), COUNT))
            partition = self.partitions[number] = AudiencePartition(plan, 0, Counters(), place=place)
            partition.finish_recovery()
            partition.set_wall(2**50)
            partition.set_expected(["lane"])
            self.set_clock(partition)
        self.ready = True
        resolver = Resolver(plan, ResolveOptions())
        lines = [
            call(),
            call(type="identify", event=..., messageId="m2", traits={"email": "Ann@example.com"}),
            call(userId="a/b\n%", messageId="m3"),
        ]
        records = [
            record
            for offset, line in enumerate(lines)
            for record in resolver.resolve(line, None, 2**50, "lane", offset).records
        ]
        while records:
            for profile, event in records:
                self.partitions[partition_for(profile.encode(), COUNT)].apply(profile, event)
            records = [one for partition in self.partitions.values() for one in partition.drain().records]

    @staticmethod
    def set_clock(partition: AudiencePartition) -> None:
        now = START + HOUR
        partition.apply_marker(ProfileEvent(VERSION, MARKER, "lane", 0, 0, now, now, progress={"lane": now}))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TestClient[web.Request, web.Application]]:
        explainer = Explainer(DEFINITIONS.audiences)
        source = ProfileSource(
            partitions=self.partitions,
            count=COUNT,
            early_ms=0,
            explainer=lambda _: explainer,
            owners=lambda number: [f"http://owner-of-{number}:6066"],
            workers=lambda: ["http://one:6066", "http://two:6066"],
            ready=lambda: self.ready,
        )
        application = web.Application()
        application.add_routes([*profile_routes(source), not_found_route()])
        async with TestClient(TestServer(application, host="127.0.0.1")) as client:
            yield client

    async def get(self, profile: str) -> tuple[int, dict[str, Any]]:
        async with self.client() as client:
            response = await client.get(f"/profiles/{quote(profile, safe='')}")
            assert response.content_type == "application/json"
            assert response.headers["Cache-Control"] == "no-store"
            document: dict[str, Any] = orjson.loads(await response.read())
            return response.status, document


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_profile_of_an_owned_partition(site: Site) -> None:
    status, document = await site.get("user_1")
    assert status == 200
    assert document["profile"] == "user_1"
    assert document["identifiers"] == {"EXTERN_ID": ["user_1"], "EMAIL": [EMAIL_HASH]}
    (audience,) = document["audiences"]
    assert (audience["audience"], audience["member"], audience["changes_at"]) == ("buyers", True, None)
    assert audience["condition"]["seen"][0] == {"name": "events", "value": 1, "or_more": False}
    assert "ann@" not in json.dumps(document).lower()


async def test_any_text_is_an_id(site: Site) -> None:
    status, document = await site.get("a/b\n%")
    assert (status, document["profile"]) == (200, "a/b\n%")


async def test_an_unknown_profile(site: Site) -> None:
    status, document = await site.get("nobody")
    assert (status, document) == (404, {"error": "there is no such profile"})


async def test_a_profile_of_another_worker(site: Site) -> None:
    number = partition_for(b"user_1", COUNT)
    del site.partitions[number]
    status, document = await site.get("user_1")
    assert status == 421
    assert document["owners"] == [f"http://owner-of-{number}:6066"]
    assert document["workers"] == ["http://one:6066", "http://two:6066"]
    assert document["profile"] == "user_1"


async def test_each_identifier_of_a_person_leads_to_the_same(site: Site) -> None:
    status, document = await site.get(f"email:{EMAIL_HASH}")
    assert (status, document["profile"]) == (200, "user_1")
    assert document["aliases"] == [f"email:{EMAIL_HASH}", "user_1"]


async def test_a_profile_that_has_become_part_of_another_workers(site: Site) -> None:
    sought = f"email:{EMAIL_HASH}"
    number = partition_for(b"user_1", COUNT)
    assert number != partition_for(sought.encode(), COUNT)
    del site.partitions[number]
    status, document = await site.get(sought)
    assert (status, document["profile"]) == (421, "user_1")
    assert document["owners"] == [f"http://owner-of-{number}:6066"]


@pytest.mark.parametrize("profile", ["ann@example.com", "email:ann@example.com", "+49301234567"])
async def test_personal_data_is_refused_and_not_repeated(site: Site, profile: str) -> None:
    status, document = await site.get(profile)
    assert status == 400
    assert "SHA-256" in document["error"]
    assert profile not in json.dumps(document)


async def test_a_worker_that_is_not_ready(site: Site) -> None:
    site.ready = False
    assert (await site.get("user_1"))[0] == 503


async def test_other_methods_are_refused(site: Site) -> None:
    async with site.client() as client:
        response = await client.post("/profiles/user_1")
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


async def test_an_error_says_nothing_of_the_profile(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(profile: str) -> None:
        raise RuntimeError(profile)

    for partition in site.partitions.values():
        monkeypatch.setattr(partition, "copy_of", broken)
    status, document = await site.get("user_1")
    assert (status, document) == (500, {"error": "an internal error; the log says more"})
    assert "/profiles cannot be answered: RuntimeError at " in caplog.text
    assert "user_1" not in caplog.text
