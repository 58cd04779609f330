"""The Graph API in memory: audiences in a dict, and refusals as scripted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.delivery import AnswerKind, GraphRefusal, Refusal, UsageMeter
from app.ports import AudienceStatus, Heed, ListedAudience, ReplaceBatch, UsersAnswer, heedless

# More turns of the event loop than anything here needs between two waits.
_SETTLE_ROUNDS = 200
_NORMAL = 200


@dataclass(slots=True)
class MemoryAudience:
    """`members` by their first identifier; the newest row sent for each."""

    id: str
    ad_account_id: str
    name: str
    description: str
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int = 200
    replacing: MemoryReplacement | None = None


@dataclass(slots=True)
class MemoryReplacement:
    """A session that is open; `batches` are the numbers that have come."""

    session_id: int
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class GraphCall:
    """A call that arrived; `account` of the audience it is about; `rows` of users calls, without blank cells."""

    kind: str
    account: str
    audience: str | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    batch: ReplaceBatch | None = None
    use: DataUse = NOTHING_SAID


@dataclass(slots=True)
class Script:
    """What the next `times` calls that fit get: `error`, after being applied or not; `until` delays the outcome.

    `person`: only calls with a row of theirs fit.
    """

    kind: str
    error: Exception | None = None
    audience: str | None = None
    account: str | None = None
    times: int | None = 1
    applied: bool = False
    until: asyncio.Event | None = None
    person: str | None = None

    def meets(self, call: GraphCall) -> bool:
        if self.times == 0 or self.kind != call.kind:
            return False
        if self.person is not None and all(self.person not in row.values() for row in call.rows):
            return False
        if self.audience not in (None, call.audience) or self.account not in (None, call.account):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class MemoryGraph:
    """Implements `app.ports.GraphApi`: audiences in a dict, and refusals as scripted.

    People are recognised by the first of EXTERN_ID, EMAIL, PHONE, MADID in a row. Kinds of calls: create, list, read,
    add, remove, replace. While a session is open, people are not added or removed. `answers` replace the answers of the
    next users calls that succeed.
    """

    def __init__(self) -> None:
        self.audiences: dict[str, MemoryAudience] = {}
        self.calls: list[GraphCall] = []
        self.scripts: list[Script] = []
        self.answers: list[UsersAnswer] = []
        # What the answers to create, list and read say of the limits.
        self.usage: tuple[UsageMeter, ...] = ()
        self.under_way: list[GraphCall] = []
        self.most_under_way = 0
        self._ids = itertools.count(23_849_182_047_670_582)

    def script(self, kind: str, error: Exception | None = None, **how: Any) -> Script:
        """Script the next calls of this kind; see `Script`."""
        script = Script(kind, error, **how)
        self.scripts.append(script)
        return script

    def members(self, audience: str) -> set[str]:
        """First identifiers of the members of the audience with this id."""
        return set(self.audiences[audience].members)

    def calls_of(self, *kinds: str) -> list[GraphCall]:
        return [call for call in self.calls if call.kind in kinds]

    async def create_audience(
        self,
        ad_account_id: str,
        name: str,
        description: str,
        customer_file_source: str,
        *,
        value_based: bool = False,
        heed: Heed = heedless,
    ) -> str:
        del customer_file_source, value_based
        created: list[str] = []

        def apply() -> None:
            audience = MemoryAudience(str(next(self._ids)), ad_account_id, name, description)
            self.audiences[audience.id] = audience
            created.append(audience.id)

        await self._arrive(GraphCall("create", ad_account_id), apply)
        heed(self.usage)
        return created[0]

    async def list_audiences(
        self, ad_account_id: str, *, heed: Heed = heedless
    ) -> AsyncGenerator[ListedAudience, None]:
        await self._arrive(GraphCall("list", ad_account_id))
        heed(self.usage)
        for audience in reversed(list(self.audiences.values())):
            if audience.ad_account_id == ad_account_id:
                yield ListedAudience(audience.id, audience.name, audience.description, "CUSTOM")

    async def read_audience(self, audience_id: str) -> AudienceStatus:
        audience = self._audience(audience_id)
        await self._arrive(GraphCall("read", audience.ad_account_id, audience_id))
        return AudienceStatus(
            audience.id,
            audience.name,
            1000,
            1000,
            audience.status,
            200,
            self.usage,
            operation=f"{audience.status} {'Normal' if audience.status == _NORMAL else 'Replace in progress'}",
            delivery="200 This audience is ready for use.",
        )

    async def add_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer:
        del beside  # not of what a row says of a person
        audience = self._audience(audience_id)
        rows = _rows(schema, data)

        def apply() -> None:
            _check_not_replacing(audience)
            for row in rows:
                person = _person(row)
                if person is not None:
                    audience.members[person] = row

        call = GraphCall("add", audience.ad_account_id, audience_id, tuple(rows), use=use)
        return await self._users(call, apply)

    async def remove_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
    ) -> UsersAnswer:
        del beside  # not of what a row says of a person
        audience = self._audience(audience_id)
        rows = _rows(schema, data)

        def apply() -> None:
            _check_not_replacing(audience)
            for row in rows:
                audience.members.pop(_person(row) or "", None)

        return await self._users(GraphCall("remove", audience.ad_account_id, audience_id, tuple(rows)), apply)

    async def replace_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        batch: ReplaceBatch,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer:
        audience = self._audience(audience_id)
        rows = _rows(schema, data)

        def apply() -> None:
            if batch.number == 1:
                if audience.replacing is not None:
                    raise _refusal(1_870_145)
                audience.replacing, audience.status = MemoryReplacement(batch.session_id), 414
            session = audience.replacing
            if session is None or session.session_id != batch.session_id:
                raise _refusal(1_870_147)
            if batch.number not in session.batches:
                session.batches.add(batch.number)
                session.members |= {person: row for row in rows if (person := _person(row)) is not None}
            if batch.last:
                self.close(audience_id)

        call = GraphCall("replace", audience.ad_account_id, audience_id, tuple(rows), batch, use)
        return await self._users(call, apply)

    def close(self, audience_id: str) -> None:
        """The session has ended: by its last batch, or in time."""
        audience = self.audiences[audience_id]
        if audience.replacing is not None:
            audience.members, audience.replacing, audience.status = audience.replacing.members, None, 200

    async def _users(self, call: GraphCall, apply: Callable[[], None]) -> UsersAnswer:
        await self._arrive(call, apply)
        return self.answers.pop(0) if self.answers else UsersAnswer(len(call.rows), 0, {})

    async def _arrive(self, call: GraphCall, apply: Callable[[], None] = lambda: None) -> None:
        self.calls.append(call)
        self.under_way.append(call)
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        try:
            await self._outcome(call, apply)
        finally:
            self.under_way.remove(call)

    async def _outcome(self, call: GraphCall, apply: Callable[[], None]) -> None:
        script = next((script for script in self.scripts if script.meets(call)), None)
        if script is None or script.error is None or script.applied:
            apply()
        if script is not None:
            if script.until is not None:
                await script.until.wait()
            if script.error is not None:
                raise script.error

    def _audience(self, audience_id: str) -> MemoryAudience:
        audience = self.audiences.get(audience_id)
        if audience is None:
            words = "Unsupported request. Object with this id does not exist"
            raise GraphRefusal(Refusal(AnswerKind.ERROR, 400, 100, 33, words))
        return audience


def _check_not_replacing(audience: MemoryAudience) -> None:
    if audience.replacing is not None:
        raise _refusal(1_870_145)


def _refusal(subcode: int) -> GraphRefusal:
    return GraphRefusal(Refusal(AnswerKind.ERROR, 400, 2650, subcode, "Failed to update the custom audience"))


def _rows(schema: Sequence[str], data: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [{key: cell for key, cell in zip(schema, row, strict=True) if cell != ""} for row in data]


def _person(row: Mapping[str, Any]) -> str | None:
    return next((str(row[key]) for key in ("EXTERN_ID", "EMAIL", "PHONE", "MADID") if key in row), None)
