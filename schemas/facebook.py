"""Answers of Meta's Graph API: the fields that this system reads, checked before anything believes them.

Ids are decimal strings beyond 53 bits. Unknown fields are ignored: Meta adds some with every version.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

# Longest text of Meta's that is kept.
_TEXT_LENGTH = 2_000
# Meta names at most 100 refused rows.
_MOST_SAMPLES = 1_000
# Of a number that says something; ids, which are larger, are texts.
_LARGEST = 10**18
_MOST_WORDS = 200
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def _exact_id(value: Any) -> Any:
    """A whole number is read as its digits; a float has lost digits and is refused."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(value: Any) -> Any:
    return value[:_TEXT_LENGTH] if isinstance(value, str) else None


def _whole(value: Any) -> Any:
    """None for anything that is not a whole number or the text of one: the field is only a hint."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and abs(value) < _LARGEST else None


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


def _samples(value: Any) -> Any:
    """Refused rows with reasons: documented as a map or as a list; an empty list was seen for no rows."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = []
        for item in value:
            if isinstance(item, dict):
                pairs.extend(item.items())
            elif isinstance(item, str):
                pairs.append((item, ""))
    else:
        return {}
    return {row: why[:_TEXT_LENGTH] if isinstance(why, str) else "" for row, why in pairs[:_MOST_SAMPLES]}


def _texts(value: Any) -> Any:
    """A list of Facebook's short words; whatever else is in it is passed over."""
    items = value if isinstance(value, list) else []
    return tuple(item for item in items[:_MOST_WORDS] if isinstance(item, str) and _WORD.fullmatch(item))


GraphId = Annotated[str, BeforeValidator(_exact_id), Field(pattern=r"^[0-9]{1,40}$")]
_Text = Annotated[str | None, BeforeValidator(_text)]
_Whole = Annotated[int | None, BeforeValidator(_whole)]
_Flag = Annotated[bool | None, BeforeValidator(_flag)]
_Words = Annotated[tuple[str, ...], BeforeValidator(_texts)]
_Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ErrorObject(_Answer):
    """The `error` of an answer; `message` and `code` may be all there is."""

    message: _Text = None
    type: _Text = None
    code: _Whole = None
    error_subcode: _Whole = None
    is_transient: _Flag = None
    error_user_title: _Text = None
    fbtrace_id: _Text = None


class CreatedAnswer(_Answer):
    id: GraphId


class _Described(_Answer):
    """A status in Facebook's own words beside its code."""

    code: _Whole = None
    description: _Text = None


class AudienceAnswer(_Answer):
    id: GraphId
    name: _Text = None
    subtype: _Text = None
    account_id: Annotated[str | None, BeforeValidator(_exact_id)] = None
    approximate_count_lower_bound: _Whole = None
    approximate_count_upper_bound: _Whole = None
    operation_status: Annotated[_Described, BeforeValidator(_object)] = _Described()
    delivery_status: Annotated[_Described, BeforeValidator(_object)] = _Described()


class ListedNode(_Answer):
    """Of a list; what was not asked for, and what is empty, is None."""

    id: GraphId
    name: _Text = None
    description: _Text = None
    subtype: _Text = None
    approximate_count_lower_bound: _Whole = None
    approximate_count_upper_bound: _Whole = None
    operation_status: Annotated[_Described, BeforeValidator(_object)] = _Described()
    delivery_status: Annotated[_Described, BeforeValidator(_object)] = _Described()
    time_created: _Whole = None


class _Cursors(_Answer):
    after: _Text = None


class _Paging(_Answer):
    cursors: Annotated[_Cursors, BeforeValidator(_object)] = _Cursors()
    next: _Text = None


class ListAnswer(_Answer):
    """One page; there are more exactly while `paging.next` is given. Empty lists come without `paging`."""

    data: list[ListedNode]
    paging: Annotated[_Paging, BeforeValidator(_object)] = _Paging()

    @property
    def following(self) -> str | None:
        """The cursor of the next page; None: this was the last."""
        return self.paging.cursors.after if self.paging.next else None

    @property
    def is_cut_off(self) -> bool:
        """More pages are promised, but no way to them is given."""
        return bool(self.paging.next) and not self.paging.cursors.after


class UsersEdgeAnswer(_Answer):
    """Answer of adding or removing people."""

    num_received: _Count
    num_invalid_entries: _Count = 0
    invalid_entry_samples: Annotated[dict[str, str], BeforeValidator(_samples)] = Field(default_factory=dict)


class TokenDescription(_Answer):
    """Of an access token; instants are Unix seconds, 0 or none: never. An invalid one may have nothing but that."""

    is_valid: bool
    app_id: Annotated[str | None, BeforeValidator(_exact_id)] = None
    type: _Text = None
    expires_at: _Whole = None
    data_access_expires_at: _Whole = None
    scopes: _Words = ()


class TokenDebugAnswer(_Answer):
    """Answer of `debug_token`."""

    data: TokenDescription


class TokenAnswer(_Answer):
    """Answer of an exchange of access tokens."""

    access_token: SecretStr


class _Business(_Answer):
    id: Annotated[str | None, BeforeValidator(_exact_id)] = None
    name: _Text = None


class AdAccountAnswer(_Answer):
    """Of an ad account what was asked for: empty fields are left out."""

    id: str
    user_tasks: _Words = ()
    business: Annotated[_Business | None, BeforeValidator(lambda value: value or None)] = None
    tos_accepted: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict)
