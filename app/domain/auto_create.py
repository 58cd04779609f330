"""Audiences that Engage calls name and nobody defined: what is published of them.

Whoever resolves such a call writes that its key is wanted, before the call counts as done. One worker publishes a
version with the wanted audiences; they are filled from history, so the calls that named them take effect, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.domain.plan_changes import generations_after
from app.domain.published import MAX_BYTES, definitions_of
from schemas.audience import KEY_PATTERN

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.domain.published import Published
    from schemas.control import DefinitionsRecord

_KEY = re.compile(KEY_PATTERN)


def may_be_created(published: Published, key: str, most: int, noted: Collection[str] = ()) -> bool:
    """Whether the key is one, nobody has asked for it, and there is room: `most` are created at most.

    `noted` are keys that have been asked for and may not be published as wanted yet.
    """
    if not _KEY.fullmatch(key) or key in noted or is_dealt_with(published, key):
        return False
    newest = published.newest
    return len({*published.wanted, *noted, *(newest.created if newest else ())}) < most


def is_dealt_with(published: Published, key: str) -> bool:
    """Whether everybody can see that the key is wanted, or that there is such an audience."""
    return key in published.wanted or key in _known(published)


def to_create(published: Published, most: int, partitions: int, now_ms: int) -> DefinitionsRecord | None:
    """The version that has the wanted audiences, too; None: there is none to create, or not yet."""
    newest = published.newest
    if newest is None or published.is_filling(partitions):
        return None
    wanted = sorted(published.wanted - _known(published))[: max(0, most - len(newest.created))]
    if not wanted:
        return None
    record = newest.model_copy(
        update={
            "number": newest.number + 1,
            "created": (*newest.created, *wanted),
            "cleared": {key: form for key, form in newest.cleared.items() if key not in wanted},
            "published_at": now_ms,
        }
    )
    generations = generations_after(
        definitions_of(newest), definitions_of(record), newest.generations, record.number, now_ms
    )
    record = record.model_copy(update={"generations": generations})
    return record if len(record.model_dump_json()) <= MAX_BYTES else None


def _known(published: Published) -> set[str]:
    newest = published.newest
    return set() if newest is None else {*newest.definitions, *newest.created}
