"""Ids of an app, a page and an Instagram account: which of them gave a person's other ids.

They are sent beside the rows, a list of the payload for each kind with one entry for each row, and find nobody alone.
On their way to the request they are cells of the rows, under the names of `ScopedKey`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.domain.normalization_tables import ascii_digits
from app.domain.normalization_text import Normalized, Outcome, Unusable, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class ScopedKey(StrEnum):
    """Columns that are no keys of a customer list."""

    APP_ID = "APP_ID"
    PAGE_ID = "PAGE_ID"
    IG_ACCOUNT_ID = "IG_ACCOUNT_ID"


# Fields of a mapping, and the column that each fills.
SCOPED_FIELDS: Final[Mapping[str, ScopedKey]] = {
    "app_id": ScopedKey.APP_ID,
    "page_id": ScopedKey.PAGE_ID,
    "instagram_account_ids": ScopedKey.IG_ACCOUNT_ID,
}
# The list of the payload that a column becomes.
PAYLOAD_LISTS: Final[Mapping[str, str]] = {
    ScopedKey.APP_ID.value: "app_ids",
    ScopedKey.PAGE_ID.value: "page_ids",
    ScopedKey.IG_ACCOUNT_ID.value: "ig_account_ids",
}

_ID: Final = re.compile(r"[0-9]{1,30}")


def normalize_scoped_id(value: object) -> Outcome:
    """An id of Facebook's, digits; of a list the first, as a row has room for one. Nothing else goes out in the clear."""
    text = text_of(value[0] if isinstance(value, list) and value else value)
    if text is None or isinstance(text, Unusable):
        return text
    digits = ascii_digits(text)
    return (
        Normalized(digits, digits)
        if _ID.fullmatch(digits)
        else Unusable("an id of Facebook's has only digits")
    )
