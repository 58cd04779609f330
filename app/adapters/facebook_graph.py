"""The client of Meta's Graph API: one method per call that delivery makes, over `facebook_transport`."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from app.adapters.facebook_answers import malformed
from app.adapters.facebook_credentials import Credentials
from app.adapters.facebook_transport import GraphTransport, account_path
from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.delivery import GraphRefusal
from app.errors import InvalidInputError
from app.ports import (
    REQUEST_TIMEOUT_SECONDS,
    AudienceStatus,
    Clock,
    Heed,
    ListedAudience,
    ReplaceBatch,
    UsersAnswer,
    heedless,
)
from schemas.facebook import AudienceAnswer, CreatedAnswer, ListAnswer, ListedNode, UsersEdgeAnswer

# Audiences per page; Meta recommends the small one, and asks for it when the large one is too much.
_PAGE = 100
_SMALL_PAGE = 20
# Meta allows some ten thousand audiences in an ad account.
_MOST_PAGES = 2_000
_TOO_MUCH_DATA = 1

_NODE = re.compile(r"[0-9]{1,40}")

_STATUS_FIELDS = "id,name,subtype,account_id,approximate_count_lower_bound,approximate_count_upper_bound,operation_status,delivery_status"
_LIST_FIELDS = "id,name,description,subtype"
_DETAILS = (
    f"{_LIST_FIELDS},approximate_count_lower_bound,approximate_count_upper_bound,"
    "operation_status,delivery_status,time_created"
)


class FacebookGraph(GraphTransport):
    """Implements `app.ports.GraphApi`; `timed_proof` as `Credentials` has it, the rest as `GraphTransport`.

    Raises InvalidInputError for a URL, version or token that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        version: str,
        token: SecretStr,
        clock: Clock,
        app_secret: SecretStr | None = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        may_send: Callable[[], bool] = lambda: True,
        *,
        timed_proof: bool = True,
    ) -> None:
        credentials = Credentials(token, app_secret, timed_proof=timed_proof)
        super().__init__(base_url, version, credentials, clock, timeout_seconds, may_send)

    # -- calls -------------------------------------------------------------------------------------------------

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
        body: dict[str, Any] = {
            "name": name,
            "subtype": "CUSTOM",
            "description": description,
            "customer_file_source": customer_file_source,
        }
        if value_based:
            body["is_value_based"] = True
        path = f"{account_path(ad_account_id)}/customaudiences"
        answer, usage, _ = await self._call("POST", path, CreatedAnswer, body=body)
        heed(usage)
        return answer.id

    async def list_audiences(
        self, ad_account_id: str, *, details: bool = False, heed: Heed = heedless
    ) -> AsyncGenerator[ListedAudience, None]:
        """All pages, by cursor: the address that Facebook names for the next page is never followed."""
        fields = _DETAILS if details else _LIST_FIELDS
        path = f"{account_path(ad_account_id)}/customaudiences"
        limit, after = _PAGE, ""
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES:
            query = {"fields": fields, "limit": str(limit)} | ({"after": after} if after else {})
            try:
                page, usage, _ = await self._call("GET", path, ListAnswer, query=query)
            except GraphRefusal as error:
                if error.refusal.code == _TOO_MUCH_DATA and limit > _SMALL_PAGE:
                    limit = _SMALL_PAGE
                    continue
                raise
            heed(usage)
            for node in page.data:
                yield _listed(node)
            if page.is_cut_off:
                raise malformed(200, "paging: next without a cursor")
            if page.following is None:
                return
            if page.following in seen:
                raise malformed(200, "paging: the same cursor twice")
            after = page.following
            seen.add(after)
        raise malformed(200, f"paging: more than {_MOST_PAGES} pages")

    async def read_audience(self, audience_id: str) -> AudienceStatus:
        answer, usage, _ = await self._call(
            "GET", _node(audience_id), AudienceAnswer, query={"fields": _STATUS_FIELDS}
        )
        return AudienceStatus(
            id=answer.id,
            name=answer.name,
            lower_bound=answer.approximate_count_lower_bound,
            upper_bound=answer.approximate_count_upper_bound,
            operation_code=answer.operation_status.code,
            delivery_code=answer.delivery_status.code,
            usage=usage,
            subtype=answer.subtype,
            ad_account=answer.account_id,
            operation=_status_words(answer.operation_status.code, answer.operation_status.description),
            delivery=_status_words(answer.delivery_status.code, answer.delivery_status.description),
        )

    async def add_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer:
        return await self._users("POST", audience_id, "users", schema, data, use, beside)

    async def remove_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
    ) -> UsersAnswer:
        return await self._users("DELETE", audience_id, "users", schema, data, NOTHING_SAID, beside)

    async def replace_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        batch: ReplaceBatch,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer:
        session = {
            "session_id": batch.session_id,
            "batch_seq": batch.number,
            "last_batch_flag": batch.last,
            "estimated_num_total": batch.total,
        }
        return await self._users("POST", audience_id, "usersreplace", schema, data, use, session=session)

    async def _users(
        self,
        method: str,
        audience_id: str,
        edge: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        use: DataUse,
        beside: Mapping[str, Sequence[Any]] | None = None,
        **more: Any,
    ) -> UsersAnswer:
        keys, rows = use.extended(schema, data)
        body = {"payload": {"schema": keys, "data": rows, **(beside or {})}, **use.beside, **more}
        answer, usage, trace = await self._call(
            method, f"{_node(audience_id)}/{edge}", UsersEdgeAnswer, body=body
        )
        return UsersAnswer(
            received=answer.num_received,
            invalid_count=answer.num_invalid_entries,
            invalid=use.without_columns(answer.invalid_entry_samples),
            trace=trace,
            usage=usage,
        )


def _listed(node: ListedNode) -> ListedAudience:
    return ListedAudience(
        id=node.id,
        name=node.name,
        description=node.description,
        subtype=node.subtype,
        lower_bound=node.approximate_count_lower_bound,
        upper_bound=node.approximate_count_upper_bound,
        operation=_status_words(node.operation_status.code, node.operation_status.description),
        delivery=_status_words(node.delivery_status.code, node.delivery_status.description),
        created=node.time_created,
    )


def _status_words(code: int | None, description: str | None) -> str | None:
    if code is None:
        return description
    return f"{code} {description}" if description else str(code)


def _node(audience_id: str) -> str:
    if not _NODE.fullmatch(audience_id):
        raise InvalidInputError("A Facebook audience id consists of digits")
    return audience_id
