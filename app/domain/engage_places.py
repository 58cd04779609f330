"""Where calls of Segment Engage say that an audience is: the ad account and the Facebook audience of theirs.

Segment's destination puts them into `context.personas`, as `audience_settings.engageAdAccountId` and
`external_audience_id`; its creation of the audience gave it the latter. What a definition says goes before, settings
come behind.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from schemas.audience import AudienceSource
from schemas.control import Place

if TYPE_CHECKING:
    from schemas.audience import AudienceDefinition, FacebookDestination
    from schemas.control import PlacedRecord

_AD_ACCOUNT: Final = re.compile(r"(?:act_)?([0-9]{1,30})")
_FACEBOOK_ID: Final = re.compile(r"[0-9]{1,30}")
# Two instances of Segment's destination may speak of one audience in turn: the first one holds as long as it speaks.
SILENT_MS: Final = 10 * 60_000


def place_of(personas: dict[str, Any]) -> Place | None:
    """What a call says; None: nothing that could be used. Numbers are read as their digits."""
    settings = personas.get("audience_settings")
    account = settings.get("engageAdAccountId") if type(settings) is dict else None
    account_digits = _AD_ACCOUNT.fullmatch(_text(account))
    audience = _FACEBOOK_ID.fullmatch(_text(personas.get("external_audience_id")))
    if account_digits is None and audience is None:
        return None
    return _place(
        None if account_digits is None else f"act_{account_digits[1]}",
        None if audience is None else audience[0],
    )


@lru_cache(1_000)  # each call of an audience says the same
def _place(ad_account_id: str | None, audience_id: str | None) -> Place:
    return Place(ad_account_id=ad_account_id, audience_id=audience_id)


def _text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    return value.strip() if type(value) is str else ""


def is_news(known: PlacedRecord | None, said: Place, at: int, last_said: int) -> bool:
    """Whether a call of the instant `at` says another place than the one that holds, which `last_said` was said last."""
    if known is None:
        return True
    return known.place != said and at > max(known.at, last_said) + SILENT_MS


def with_place(definition: AudienceDefinition, place: Place | None) -> AudienceDefinition:
    """The definition with what it leaves open filled in; one that is not Engage's stays as it is."""
    if place is None or definition.source is not AudienceSource.ENGAGE:
        return definition
    alone = len(definition.destinations) == 1
    destinations = [_placed(item, place, alone=alone) for item in definition.destinations]
    return definition.model_copy(update={"destinations": destinations})


def _placed(item: FacebookDestination, place: Place, *, alone: bool) -> FacebookDestination:
    account = item.ad_account_id or (place.ad_account_id if alone else None)
    # An audience id is one of the ad account that the call names beside it.
    meant = place.ad_account_id == account if place.ad_account_id is not None else alone
    audience = item.audience_id or (place.audience_id if meant else None)
    return item.model_copy(update={"ad_account_id": account, "audience_id": audience})
