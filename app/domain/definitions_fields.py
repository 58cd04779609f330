"""`fields` of a destination: what is sent in place of what is found by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_values import check_path, read_path, read_scalar, read_text
from app.domain.definitions_warnings import identifies_people
from app.domain.normalization import INPUT_KEYS, NormalizationOptions, Outcome, Unusable, normalize_fields
from app.domain.scoped_ids import SCOPED_FIELDS, normalize_scoped_id
from app.domain.trait_sources import name_of
from app.domain.yaml_nodes import shown
from schemas.audience import FieldSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.definitions_values import Value
    from schemas.audience import FacebookDestination

    Fields = dict[str, list[FieldSource]]

_WHAT: Final = "a path such as $.traits.work_email, a list of them, {const: VALUE} or {trait: KEY}"
_SOURCES: Final = ("const", "trait")
_KNOWN: Final = {**INPUT_KEYS, **dict.fromkeys(SCOPED_FIELDS, ())}
# Paths here start at the whole call.
_CALL: Final = "$."
# Of these a person may have several; of every other field one value is sent.
_SEVERAL: Final = frozenset({"email", "phone"})
_ANY_YEAR: Final = NormalizationOptions(today_year=9999)


def traits_sent(destination: FacebookDestination) -> set[str]:
    """The names of the traits that fields of the destination are mapped to."""
    sources = [source for listed in destination.fields.values() for source in listed]
    return {name_of(source.trait) for source in sources if source.trait is not None}


def read_fields(value: Value) -> Fields | None:
    """Sources in order by field, `name.first` for a part of one; None when a problem with them was reported."""
    entries = value.entries("a mapping such as {email: $.traits.work_email}")
    if entries is None:
        return None
    before = value.findings.reports
    refuse_other_keys(entries, tuple(_KNOWN), what="field")
    fields: Fields = {}
    for name, written in entries.items():
        parts = _KNOWN.get(name)
        if parts is None:
            continue
        if parts and written.is_mapping and not _is_source(written):
            of_parts = written.entries(_WHAT) or {}
            refuse_other_keys(of_parts, parts)
            fields |= {
                f"{name}.{part}": _read(f"{name}.{part}", source)
                for part, source in of_parts.items()
                if part in parts
            }
        else:
            fields[name] = _read(name, written)
    return None if value.findings.reports > before else fields


def _is_source(value: Value) -> bool:
    return bool((value.entries(_WHAT) or {}).keys() & set(_SOURCES))


def _read(name: str, value: Value) -> list[FieldSource]:
    sources = _read_sources(name, value)
    if name == "external_id" and any(identifies_people(one.path or one.trait or "") for one in sources):
        value.warn(
            "an external id that is an e-mail address or a phone number is sent hashed, as no clear text"
        )
    return sources


def _read_sources(name: str, value: Value) -> list[FieldSource]:
    if not value.is_list:
        one = _read_source(name, value)
        return [] if one is None else [one]
    items = value.items(_WHAT) or []
    if not items:
        value.refuse("expected at least one place to look at")
    read = [_read_source(name, item) for item in items]
    return [source for source in read if source is not None]


def _read_source(name: str, value: Value) -> FieldSource | None:
    if value.is_mapping:
        return _read_mapping(name, value)
    if value.is_list:
        value.expected(_WHAT)
        return None
    text = read_text(value, _WHAT)
    if text is None:
        return None
    if not text.startswith(_CALL):
        value.refuse(
            f"a path here starts at the whole call, such as $.traits.work_email; got {shown(text)} "
            "(a constant is written {const: VALUE})"
        )
        return None
    path = text.removeprefix(_CALL)
    return FieldSource(path=path) if check_path(value, path, one_value=name not in _SEVERAL) else None


def _read_mapping(name: str, value: Value) -> FieldSource | None:
    entries = value.entries(_WHAT) or {}
    if len(entries) != 1 or not entries.keys() <= set(_SOURCES):
        value.expected("one of {const: VALUE} and {trait: KEY}")
        return None
    if "trait" in entries:
        path = read_path(entries["trait"], one_value=name not in _SEVERAL)
        return None if path is None else FieldSource(trait=path)
    const = read_scalar(entries["const"])
    if const is None:
        return None
    field, _, part = name.partition(".")
    outcomes: Mapping[Any, Outcome]
    if field in SCOPED_FIELDS:
        outcome = normalize_scoped_id(const)
        outcomes = {} if outcome is None else {field: outcome}
    else:
        outcomes = normalize_fields({field: {part: const} if part else const}, _ANY_YEAR)
    if not outcomes:
        entries["const"].refuse("a blank value is sent nowhere")
        return None
    unusable = [outcome for outcome in outcomes.values() if isinstance(outcome, Unusable)]
    if len(unusable) == len(outcomes):
        entries["const"].refuse(f"this cannot be sent: {unusable[0].error}")
        return None
    return FieldSource(const=const)
