r"""Paths into the data of a call: `products.$.sku`.

Dots separate names, `\.` is a dot within a name, and a part `$` stands for the items of an array.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

# Longer or deeper ones cannot be of use: a call is at most 32 KB.
MAX_PATH_CHARACTERS = 512
MAX_PATH_PARTS = 32

_SEPARATOR = re.compile(r"(?<!\\)\.")


class ArrayItems(Enum):
    """Type of the one value ARRAY_ITEMS, so that a part's type tells it from a name."""

    ITEMS = "$"


ARRAY_ITEMS: Final = ArrayItems.ITEMS


def parse_path(text: str) -> tuple[str | ArrayItems, ...]:
    """The names of the path in order, ARRAY_ITEMS where it goes into the items of an array.

    Raises ValueError, worded for whoever wrote the path, when `text` is not one.
    """
    if not text:
        raise ValueError("a path may not be empty")
    if len(text) > MAX_PATH_CHARACTERS:
        raise ValueError(f"a path may have at most {MAX_PATH_CHARACTERS} characters")
    parts = _SEPARATOR.split(text)
    if len(parts) > MAX_PATH_PARTS:
        raise ValueError(f"a path may have at most {MAX_PATH_PARTS} parts")
    if "" in parts:
        raise ValueError(
            r"a path may not begin or end with a dot or have two in a row (a dot in a name is \.)"
        )
    if parts[0] == ARRAY_ITEMS.value:
        raise ValueError("a path here begins with a name, not with $ (it already starts inside the data)")
    return tuple(ARRAY_ITEMS if part == ARRAY_ITEMS.value else part.replace("\\.", ".") for part in parts)
