"""What an audience is that nobody defined and Segment Engage calls about: the defaults of the definitions, under its
key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.audience import AudienceDefinition, AudienceSource

if TYPE_CHECKING:
    from collections.abc import Iterable

# Where the defaults stand among the published forms: keys of audiences have no point.
DEFAULTS: Final = "defaults.engage"
# In place of a key, which destinations' ids begin with; the name is the key's.
_KEY: Final = "engage"

PLAIN: Final = AudienceDefinition.model_validate(
    {"key": _KEY, "name": _KEY, "source": AudienceSource.ENGAGE, "destinations": [{"id": _KEY}]}
)


def created_audience(defaults: AudienceDefinition, key: str) -> AudienceDefinition:
    """The audience of Engage with this key; it has no other name."""
    destinations = [
        item.model_copy(update={"id": f"{key}{item.id.removeprefix(_KEY)}"}) for item in defaults.destinations
    ]
    return defaults.model_copy(update={"key": key, "name": key, "destinations": destinations})


def created_audiences(defaults: AudienceDefinition, keys: Iterable[str]) -> tuple[AudienceDefinition, ...]:
    """All of these, in their order."""
    return tuple(created_audience(defaults, key) for key in keys)
