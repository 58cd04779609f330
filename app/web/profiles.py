"""/profiles/{id}: what this worker knows of one profile, and why it is in which audience.

The id is that of a profile, or of one that has become part of another: each identifier of a person leads to the same
answer. A worker answers for the partitions
it owns; for others it says who owns them, as far as it knows: a worker that was started anew under its instance id may
be known to the others by its former URL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from app.domain.explanation import Explainer
from app.domain.linking import owner_of
from app.domain.partition import AudiencePartition
from app.domain.profile_ids import holds_personal_data, is_account
from app.domain.profile_report import as_document, report
from app.domain.state import ProfileState
from app.errors import kind_and_place
from app.web.routes import INTERNAL_ERROR, METHOD_NOT_ALLOWED, NOT_FOUND, OK, UNAVAILABLE, json_response
from app.web.worker_view import displayable
from topics.partitioning import partition_for

_logger = logging.getLogger(__name__)

BAD_REQUEST: Final = 400
MISDIRECTED: Final = 421
# Profiles that have become part of one another; they never form a ring.
_MOST_FORWARDS: Final = 100


@dataclass(frozen=True, slots=True)
class ProfileSource:
    """Where the page looks. `partitions` are the owned ones, of `count` altogether.

    `explainer` explains the version of the definitions that a partition runs by. `owners` gives the URLs of the
    workers that own a partition as far as is known, `workers` those of all.
    """

    partitions: Mapping[int, AudiencePartition]
    count: int
    early_ms: int
    explainer: Callable[[int], Explainer]
    owners: Callable[[int], list[str]]
    workers: Callable[[], list[str]]
    ready: Callable[[], bool]


def profile_routes(source: ProfileSource) -> list[web.RouteDef]:
    """To be added before the route that answers all that no other does."""
    page = _ProfilePage(source)
    return [web.get(_PATH, page.answer), web.route("*", _PATH, _not_allowed)]


# An id may hold anything, a line end too.
_PATH: Final = "/profiles/{id:(?s:.+)}"


async def _not_allowed(request: web.Request) -> web.Response:
    del request
    refusal = json_response({"error": "/profiles/{id} answers GET and HEAD"}, METHOD_NOT_ALLOWED)
    refusal.headers["Allow"] = "GET, HEAD"
    return refusal


class _ProfilePage:
    def __init__(self, source: ProfileSource) -> None:
        self._source = source
        # One at a time: each may take some time and memory.
        self._busy = asyncio.Lock()

    async def answer(self, request: web.Request) -> web.Response:
        try:
            async with self._busy:
                status, document = await self._find(displayable(request.match_info["id"]))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the worker goes on
            # Neither the id nor what was found is repeated.
            _logger.error("/profiles cannot be answered: %s", kind_and_place(exc))  # noqa: TRY400 - its text may be anything
            status, document = INTERNAL_ERROR, {"error": "an internal error; the log says more"}
        response = json_response(document, status)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _find(self, profile: str) -> tuple[int, dict[str, Any]]:
        source = self._source
        if holds_personal_data(profile):
            return BAD_REQUEST, {
                "error": "this looks like an e-mail address or a phone number, which is no profile id: its SHA-256 "
                "is, or `email:` and the SHA-256 of the normalised address (`audience-sync explain` makes both)"
            }
        if not source.ready():
            return UNAVAILABLE, {"error": "the worker is starting, or partitions are being assigned"}
        for _ in range(_MOST_FORWARDS):
            number = partition_for(profile.encode(), source.count)
            partition = source.partitions.get(number)
            if partition is None:
                return MISDIRECTED, {
                    "error": f"another worker owns partition {number}, where this profile is if there is one",
                    "profile": profile,
                    "owners": source.owners(number),
                    "workers": source.workers(),
                }
            state = partition.copy_of(profile)
            if state is None:
                break
            owner = owner_of(state)
            if owner is None:
                return await self._report(partition, profile, state)
            profile = owner
        return NOT_FOUND, {"error": "there is no such profile"}

    async def _report(
        self, partition: AudiencePartition, profile: str, state: ProfileState
    ) -> tuple[int, dict[str, Any]]:
        now = partition.clock.now
        if now is None:
            return UNAVAILABLE, {"error": "the clock of the profile's partition has not started yet"}
        source = self._source
        plan, explainer = partition.plan, source.explainer(partition.definitions)
        if is_account(profile):
            if plan.accounts is None:
                return NOT_FOUND, {"error": "there is no such profile: no audience is one of accounts"}
            plan, explainer = plan.accounts.plan, explainer.of_accounts
        # In a thread: a profile with many events has a long future. All that it works on is its own.
        found = await asyncio.to_thread(
            report,
            profile,
            state,
            plan,
            explainer,
            now,
            source.early_ms,
        )
        return OK, as_document(found)
