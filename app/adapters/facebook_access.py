"""What the Graph API says of who calls: of the access token, and of an ad account that it is used for."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import SecretStr

from app.adapters.facebook_answers import malformed
from app.adapters.facebook_credentials import usable_token
from app.adapters.facebook_transport import GraphTransport, account_path
from app.domain.access_tokens import TokenFacts, instant_of
from app.domain.delivery import UsageMeter
from app.errors import InvalidInputError
from app.ports import AdAccountFacts
from schemas.facebook import AdAccountAnswer, TokenAnswer, TokenDebugAnswer

ACCEPTED = 1


class FacebookAccess(GraphTransport):
    """Implements `app.ports.TokenApi`. The token of the shared credentials asks about itself."""

    @property
    def can_exchange(self) -> bool:
        return self.credentials.app_secret is not None

    def held_token(self) -> SecretStr:
        return self.credentials.token

    def use_token(self, token: SecretStr) -> None:
        self.credentials.use(token)

    async def token_facts(self, token: SecretStr | None = None) -> TokenFacts:
        asked = (token or self.credentials.token).get_secret_value()
        # Meta knows no other way to ask about a token; the URL it stands in is neither logged nor part of an error.
        answer, _, _ = await self._call("GET", "debug_token", TokenDebugAnswer, query={"input_token": asked})
        found = answer.data
        return TokenFacts(
            valid=found.is_valid,
            scopes=found.scopes,
            expires_at=instant_of(found.expires_at),
            data_access_expires_at=instant_of(found.data_access_expires_at),
            app_id=found.app_id,
            kind=found.type,
        )

    async def exchange_token(self, app_id: str) -> SecretStr:
        secret = self.credentials.app_secret
        if secret is None:
            raise InvalidInputError("FACEBOOK_APP_SECRET is not set: no token can be exchanged without it")
        query = {
            "grant_type": "fb_exchange_token",
            "client_id": app_id,
            "client_secret": secret.get_secret_value(),
            "set_token_expires_in_60_days": "true",
            "fb_exchange_token": self.credentials.token.get_secret_value(),
        }
        answer, _, _ = await self._call("GET", "oauth/access_token", TokenAnswer, query=query)
        try:
            new = usable_token(answer.access_token)
        except InvalidInputError:
            raise malformed(HTTPStatus.OK, "access_token is no token") from None
        self.credentials.hide(new)
        return new

    async def account_facts(self, ad_account_id: str, field: str) -> AdAccountFacts:
        """One field at a time: a right that is missing for one of several would refuse all of them."""
        answer, usage, _ = await self._call(
            "GET", account_path(ad_account_id), AdAccountAnswer, query={"fields": field}
        )
        return _facts(answer, usage)


def _facts(answer: AdAccountAnswer, usage: tuple[UsageMeter, ...]) -> AdAccountFacts:
    business = answer.business
    return AdAccountFacts(
        tasks=answer.user_tasks,
        business=None if business is None else (business.name or business.id or ""),
        terms_accepted=answer.tos_accepted.get("custom_audience_tos") in (ACCEPTED, True),
        usage=usage,
    )
