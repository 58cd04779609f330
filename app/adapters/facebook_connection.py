"""Clients of the Graph API as the settings say; all that calls it is made here."""

from __future__ import annotations

from collections.abc import Callable

from app.adapters.facebook_access import FacebookAccess
from app.adapters.facebook_credentials import Credentials
from app.adapters.facebook_graph import FacebookGraph
from app.domain.data_use import DataUse
from app.errors import InvalidInputError
from app.ports import Clock
from app.settings import Settings
from schemas.data_use import DataProcessing


def facebook_graph(
    settings: Settings,
    clock: Clock,
    timeout_seconds: float,
    may_send: Callable[[], bool] = lambda: True,
) -> FacebookGraph:
    """Raises InvalidInputError when there is no access token, or it, URL or version cannot be used."""
    if settings.facebook_access_token is None:
        raise InvalidInputError("FACEBOOK_ACCESS_TOKEN (or FACEBOOK_ACCESS_TOKEN_FILE) is not set")
    return FacebookGraph(
        settings.facebook_api_url,
        settings.facebook_api_version,
        settings.facebook_access_token,
        clock,
        settings.facebook_app_secret,
        timeout_seconds,
        may_send,
        timed_proof=settings.facebook_proof == "timed",
    )


def facebook_access(
    settings: Settings, credentials: Credentials, clock: Clock, timeout_seconds: float
) -> FacebookAccess:
    """Shares `credentials` with whoever else calls, so that a new token is one for all."""
    return FacebookAccess(
        settings.facebook_api_url, settings.facebook_api_version, credentials, clock, timeout_seconds
    )


def data_use(settings: Settings) -> DataUse:
    """Of destinations that say nothing themselves."""
    chosen = settings.facebook_data_processing_options
    if chosen is None:
        return DataUse(settings.facebook_customer_consent)
    option, *places = chosen.split(",")
    country, state = map(int, places) if places else (None, None)
    processing = DataProcessing(options=["LDU"] if option == "LDU" else [], country=country, state=state)
    return DataUse(settings.facebook_customer_consent, processing)
