"""What Facebook's error codes mean for delivery: one row per code and subcode, as plain data.

Source: Meta's Marketing API error codes, its pages on rate limits and on custom audience users, and answers seen
by others. `app.domain.delivery.classify` looks refusals up here; texts are for a person and name what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from app.domain.access_tokens import RENEW as _RENEW


class Reaction(StrEnum):
    """What delivery does about a refusal; one value per thing to do."""

    RETRY = "retry"
    THROTTLE = "throttle"
    AUTH_OR_TERMS = "auth_or_terms"
    REQUEST_ERROR = "request_error"
    BAD_ROW = "bad_row"
    AUDIENCE_GONE = "audience_gone"
    HOLD = "hold"


class Scope(StrEnum):
    """What a refusal is about, from one row to everything the access token is used for."""

    ROW = "row"
    REQUEST = "request"
    AUDIENCE = "audience"
    AD_ACCOUNT = "ad_account"
    APP = "app"
    TOKEN = "token"  # noqa: S105 - the name of a scope


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds: `first` after the first refusal, doubling to `longest`."""

    first: float
    longest: float


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """`subcode` None: any that has no row of its own. `text`: the row holds only for messages it is found in."""

    code: int
    subcode: int | None
    reaction: Reaction
    scope: Scope
    wait: Wait | None = None
    text: re.Pattern[str] | None = None
    instruction: str | None = None


BACK_OFF = Wait(2, 60)
_SECONDS = Wait(5, 60)
_SCORE = Wait(60, 300)
_TOKEN_CALLS = Wait(60, 3600)
_MINUTES = Wait(300, 3600)
_BLOCKED = Wait(900, 14_400)
_TROUBLE = Wait(900, 3600)
_REPLACING = Wait(60, 600)

_GRANT = "Give the system user the permission ads_management and assign the ad account to it."
_ASSIGN = "Give the token's user the role of an administrator of the ad account."
_TERMS = (
    "Accept the Custom Audience terms as a person of that business: "
    "https://business.facebook.com/ads/manage/customaudiences/tos/?act={account}"
)
_FLAGGED = (
    "Meta flagged the audience because its name or rule hints at sensitive facts: appeal in Ads Manager, "
    "or define another audience without them."
)
_ABUSE = "If it lasts, ask Meta's support why the account or app is blocked."
_APP_ACCESS = (
    "Request Full access for the app, or make the token's user an administrator of app and ad account."
)


def _throttles() -> list[ErrorRow]:
    def row(
        code: int, subcode: int | None, scope: Scope, wait: Wait = _MINUTES, instruction: str | None = None
    ) -> ErrorRow:
        return ErrorRow(code, subcode, Reaction.THROTTLE, scope, wait, instruction=instruction)

    account, app, token = Scope.AD_ACCOUNT, Scope.APP, Scope.TOKEN
    # The calls of one use case are counted per ad account; Meta lists them with the subcode, so the rows
    # without are a precaution: taken for a permanent error, a limit would cost a whole batch.
    use_cases = [row(code, sub, account) for code in (80_000, 80_003, 80_004) for sub in (2_446_079, None)]
    return [
        *use_cases,
        row(80_014, None, account),
        row(17, 2_446_079, account, _SCORE),
        row(17, 1_885_172, account),
        row(17, None, token, _TOKEN_CALLS),
        row(613, 1_487_742, account, _SCORE),
        row(613, 1_996, app),
        row(613, 5_044_001, account, _SECONDS),
        row(613, None, account, instruction=_ABUSE),
        row(4, 1_504_022, app),
        row(4, 1_504_039, app),
        row(4, None, app),
        row(32, None, token),
        row(341, None, app),
        *(row(code, None, token, _BLOCKED, _ABUSE) for code in (368, 1_404_078, 2_859_015)),
    ]


def _retries() -> list[ErrorRow]:
    def row(code: int, subcode: int | None, scope: Scope, wait: Wait = BACK_OFF) -> ErrorRow:
        return ErrorRow(code, subcode, Reaction.RETRY, scope, wait)

    return [
        row(1, None, Scope.REQUEST),
        row(2, None, Scope.REQUEST),
        row(5_000, None, Scope.REQUEST),
        row(3_910_001, None, Scope.AD_ACCOUNT, _TROUBLE),
        row(2_650, 1_870_145, Scope.AUDIENCE, _REPLACING),
        row(2_650, 1_870_148, Scope.AUDIENCE, _REPLACING),
    ]


def _for_a_person() -> list[ErrorRow]:
    def row(
        code: int, subcode: int | None, scope: Scope, instruction: str, text: str | None = None
    ) -> ErrorRow:
        pattern = re.compile(text) if text else None
        return ErrorRow(code, subcode, Reaction.AUTH_OR_TERMS, scope, text=pattern, instruction=instruction)

    account, app, audience, token = Scope.AD_ACCOUNT, Scope.APP, Scope.AUDIENCE, Scope.TOKEN
    proof = "Put the secret of the app that issued the access token into FACEBOOK_APP_SECRET, and check this machine's clock."
    edit = "Change what Meta flagged in Ads Manager, or define another audience."
    inactive = "The account that owns an audience in use is inactive: reactivate it in Business Settings."
    return [
        *(row(190, subcode, token, _RENEW) for subcode in (458, 459, 460, 463, 464, 467, 492, 493, None)),
        row(102, None, token, _RENEW),
        row(104, None, token, _RENEW),
        row(100, None, app, proof, text="appsecret_proof"),
        row(3, None, app, "Have the app reviewed for the Marketing API, or add that product to it."),
        row(10, None, token, _GRANT),
        row(200, 1_870_034, account, _TERMS),
        row(200, 1_870_090, account, _TERMS),
        row(200, 1_870_092, account, "Accept the Business Tools terms in Business Settings."),
        row(200, 1_870_050, account, "Link the ad account to the business account."),
        row(200, None, token, _GRANT),
        row(270, None, app, _APP_ACCESS),
        row(273, None, token, _ASSIGN),
        row(294, None, token, _GRANT),
        row(1_404_163, None, account, "Meta no longer lets this account advertise: ask Meta's support."),
        row(
            2_635, None, app, "Raise AUDIENCE_SYNC_FACEBOOK_API_VERSION to a version that Meta still serves."
        ),
        row(2_654, 1_713_092, account, _GRANT),
        row(2_655, None, account, _TERMS),
        row(2_663, None, account, _TERMS),
        row(2_664, None, account, _TERMS),
        row(100, 1_713_230, audience, _FLAGGED),
        row(100, 1_713_231, audience, edit),
        row(100, 1_713_228, audience, edit),
        row(100, 1_713_232, audience, "Meta flagged the seed audience: choose another one."),
        row(1_870_065, None, audience, inactive),
        row(1_870_090, None, account, _TERMS),
        row(1_870_092, None, account, "Accept the Business Tools terms in Business Settings."),
    ]


def _requests() -> list[ErrorRow]:
    def row(
        code: int,
        subcode: int | None,
        scope: Scope = Scope.REQUEST,
        text: str | None = None,
        instruction: str | None = None,
    ) -> ErrorRow:
        pattern = re.compile(text, re.IGNORECASE | re.DOTALL) if text else None
        return ErrorRow(code, subcode, Reaction.REQUEST_ERROR, scope, text=pattern, instruction=instruction)

    audience = Scope.AUDIENCE
    style = "Its people were uploaded by a single key, which cannot be mixed with ours: connect or make another audience."
    look = "Look at the audience in Ads Manager: Facebook takes no change of it."
    create = "Look at the system user's rights to the ad account, its terms, and how many audiences it has."
    lookalikes = "Delete the lookalike audiences that were made of it first."
    return [
        row(1, None, text=r"reduc\w* the amount of data"),
        row(1, 99),
        *(
            row(2_650, subcode, audience, instruction=look)
            for subcode in (1_870_158, 1_870_159, 1_870_147, 1_870_144)
        ),
        row(2_650, None, audience, r"FILE_IMPORTED\.\w+.*FILE_IMPORTED\.\w+", style),
        row(2_650, None, audience, instruction=look),
        row(2_500, None),
        row(2_654, None, Scope.AD_ACCOUNT, instruction=create),
        row(2_654, 1_870_053),
        row(2_654, 1_713_151),
        row(100, None, text=r"data is missing or does not match schema"),
        row(100, None, text=r"nonexisting field"),
        row(100, None, text=r"\bids\b.*\bdeprecated\b"),
        row(100, 1_713_098),
        row(100, None),
        row(105, None),
        row(194, None),
        row(2_656, None, audience, instruction=lookalikes),
    ]


def _audience_gone() -> list[ErrorRow]:
    def row(code: int, subcode: int | None, scope: Scope, instruction: str) -> ErrorRow:
        return ErrorRow(code, subcode, Reaction.AUDIENCE_GONE, scope, instruction=instruction)

    deleted = (
        "The Facebook audience was deleted, or the token lost its right to it: give the right back, "
        "connect another audience with facebook.audience_id, or have another one made with `audience-sync audiences create`."
    )
    return [
        row(100, 33, Scope.AUDIENCE, deleted),
        row(803, None, Scope.REQUEST, "Check facebook.audience_id of the definition."),
        row(1_487_301, None, Scope.AUDIENCE, "Share the Facebook audience with this ad account."),
        row(1_487_366, None, Scope.AUDIENCE, deleted),
    ]


HOLD_TOO_SMALL = ErrorRow(
    200,
    1_870_047,
    Reaction.HOLD,
    Scope.AUDIENCE,
    instruction="Facebook keeps these people until the audience has grown; the removals wait. Delete the audience to remove them now.",
)

ERROR_ROWS: tuple[ErrorRow, ...] = (
    *_throttles(),
    *_retries(),
    *_for_a_person(),
    *_requests(),
    *_audience_gone(),
    HOLD_TOO_SMALL,
)
