"""Calls that Segment Engage makes: which audience they speak of, and whether the profile is in it.

The rules are those of Segment's own destination: the class of the computation says that a membership is claimed,
its key names the property or trait that holds the boolean, and the names of events mean nothing. Steps of journeys
that were made before steps had a boolean claim by being there at all, where that is asked for.
"""

from __future__ import annotations

from typing import Any, Final

_JOURNEY_STEP: Final = "journey_step"
_CLASSES: Final = frozenset({"audience", _JOURNEY_STEP})

# Names of the destination in `integrations`, the most specific first; all are instances of the one thing.
_DESTINATION_KEYS: Final = (
    "Facebook Custom Audiences (Actions)",
    "Personas Facebook Custom Audiences",
    "PERSONAS - Facebook Ads",
    "All",
)


def claims_membership(personas: Any) -> bool:
    """Whether `context.personas` is that of a membership; a computed trait's is not."""
    if type(personas) is not dict:
        return False
    computation = personas.get("computation_class")
    return type(computation) is str and computation in _CLASSES


def is_journey_step(personas: dict[str, Any]) -> bool:
    """Whether what claims a membership is a step of a journey."""
    return bool(personas.get("computation_class") == _JOURNEY_STEP)


def audience_key(personas: dict[str, Any], *, legacy_step: bool = False) -> str | None:
    """The audience's key, None where there is none; a `legacy_step` without a key goes by the step's id."""
    key = personas.get("computation_key")
    if legacy_step and not (type(key) is str and key):
        key = personas.get("computation_id")
    return key if type(key) is str and key else None


def claimed_membership(call_type: str, key: str, properties: Any, traits: Any) -> bool | None:
    """What the call says of the audience; None where it says nothing that is a boolean.

    An identify call says it in its traits, a track call in its properties, under the key as it is.
    """
    source = traits if call_type == "identify" else properties if call_type == "track" else None
    value = source.get(key) if type(source) is dict else None
    return value if type(value) is bool else None


def is_decided_by_engage(call_type: str, call: dict[str, Any]) -> bool:
    """Whether the whole call has a boolean of Engage's: then it is Engage's, whatever else it may look like."""
    context = call.get("context")
    personas = context.get("personas") if type(context) is dict else None
    if type(personas) is not dict or not claims_membership(personas):
        return False
    key = audience_key(personas)
    if key is None:
        return False
    return claimed_membership(call_type, key, call.get("properties"), call.get("traits")) is not None


def may_reach_facebook(integrations: Any) -> bool:
    """Whether the call's `integrations` let it through; only the boolean false keeps it back."""
    if type(integrations) is dict:
        for key in _DESTINATION_KEYS:
            if key in integrations:
                return integrations[key] is not False
    return True
