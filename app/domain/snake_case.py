"""Keys made of names, as Segment makes them."""

from __future__ import annotations

import re

# A digit continues a word of either case but opens one only after a separator or capitals: `30Days` is one.
_WORD = re.compile(r"[A-Z0-9]+[a-z0-9]*|[a-z0-9]+")


def snake_case(name: str) -> str:
    """Segment's key of a name: `Order Completed Last 30Days` -> `order_completed_last_30days`.

    Letters outside A-Z only separate words, so a name written without any gives "", which is no key.
    """
    return "_".join(_WORD.findall(name)).lower()
