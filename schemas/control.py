"""Control records: what every worker must agree on."""

from __future__ import annotations

from typing import Any

from schemas.base import StoredMessage


class DefinitionRecord(StoredMessage):
    """The published form of one audience definition, under the key `definition|AUDIENCE_KEY`.

    A computed trait has `traits.KEY` in place of the audience's key.

    `definition` is the definition with all defaults merged; two equal ones compute the same memberships.
    """

    audience: str
    definition: dict[str, Any]
    published_at: int
    version: int = 1
