"""Meta's own client of the Graph API, pointed at the sandbox; it blocks, so a test calls it in a thread."""

from __future__ import annotations

from typing import Any, Final

from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

VERSION: Final = "v25.0"


class MetaSdk:
    """`app_secret`: a proof of it goes with every call, in the form that this client knows."""

    def __init__(self, base_url: str, token: str, app_secret: str | None = None) -> None:
        session = FacebookSession(app_secret=app_secret, access_token=token)
        session.GRAPH = base_url
        self._api = FacebookAdsApi(session, api_version=VERSION)

    def create(self, account: str, **parameters: Any) -> str:
        answer = AdAccount(account, api=self._api).create_custom_audience(params=parameters)
        return str(answer["id"])

    def ids(self, account: str, page_size: int) -> list[str]:
        """Of all audiences of the account, however many pages they take."""
        found = AdAccount(account, api=self._api).get_custom_audiences(
            fields=["id", "name"], params={"limit": page_size}
        )
        return [str(one["id"]) for one in found]

    def read(self, audience: str, *fields: str) -> dict[str, Any]:
        answer = CustomAudience(audience, api=self._api).api_get(fields=list(fields))
        return dict(answer.export_all_data())

    def add(self, audience: str, schema: list[str] | str, rows: list[Any], **more: Any) -> dict[str, Any]:
        list_ = CustomAudience(audience, api=self._api)
        return dict(list_.add_users(schema, rows, is_raw=True, **more).json())

    def remove(self, audience: str, schema: list[str] | str, rows: list[Any], **more: Any) -> dict[str, Any]:
        list_ = CustomAudience(audience, api=self._api)
        return dict(list_.remove_users(schema, rows, is_raw=True, **more).json())

    def replace(
        self, audience: str, schema: list[str], batches: list[list[Any]], session_id: int
    ) -> list[dict[str, Any]]:
        """Everybody, in one session; the answer to each batch."""
        list_ = CustomAudience(audience, api=self._api)
        answers = []
        for number, rows in enumerate(batches, 1):
            session = {
                "session_id": session_id,
                "batch_seq": number,
                "last_batch_flag": number == len(batches),
                "estimated_num_total": sum(map(len, batches)),
            }
            params = {**CustomAudience.format_params(schema, rows, is_raw=True), "session": session}
            answers.append(dict(list_.create_users_replace(params=params).export_all_data()))
        return answers

    def sessions(self, audience: str, session_id: int) -> list[dict[str, Any]]:
        found = CustomAudience(audience, api=self._api).get_sessions(params={"session_id": session_id})
        return [dict(one.export_all_data()) for one in found]

    def remove_everywhere(self, account: str, schema: list[str], rows: list[Any]) -> None:
        params = CustomAudience.format_params(schema, rows, is_raw=True)
        AdAccount(account, api=self._api).delete_users_of_any_audience(params=params)

    def delete(self, audience: str) -> None:
        CustomAudience(audience, api=self._api).api_delete()


def rows_sent(schema: list[str], people: list[list[str]]) -> list[list[str]]:
    """What this client makes of clear text."""
    params = CustomAudience.format_params(schema, people, is_raw=True)
    return [list(row) for row in params["payload"]["data"]]
