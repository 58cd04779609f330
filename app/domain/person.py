"""Who a call is about: the identifiers it carries, normalised and hashed before anything is written.

The default places are those that Segment's Facebook destinations read: an identify call's traits; of a call that
Segment Engage makes, its properties and the traits in its context too. The person's own country in the same call
guides phone number, state and postal code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.normalization import (
    MetaKey,
    NormalizationOptions,
    Normalized,
    normalize_fields,
    normalize_mobile_id,
)
from app.domain.reverse_etl import DELETED

if TYPE_CHECKING:
    from collections.abc import Sequence

    Identifiers = dict[str, str | float | None]


@dataclass(frozen=True, slots=True)
class _Field:
    """An input of `normalize_fields` (`part` of an object it takes), where it is read from, and what it fills.

    The first place that is not blank counts.
    """

    name: str
    places: tuple[str, ...]
    columns: tuple[MetaKey, ...]
    part: str | None = None
    in_address: tuple[str, ...] = ()


_BIRTH: Final = (MetaKey.DOBY, MetaKey.DOBM, MetaKey.DOBD)
_FIELDS: Final = (
    _Field("email", ("email",), (MetaKey.EMAIL,)),
    _Field("phone", ("phone", "phone_number", "phonenumber", "phoneNumber"), (MetaKey.PHONE,)),
    _Field("gender", ("gender", "gen"), (MetaKey.GEN,)),
    _Field("birthday", ("birthday", "date_of_birth", "dateOfBirth", "DOB"), _BIRTH),
    _Field("birth", ("birth_year", "birthYear"), _BIRTH, "year"),
    _Field("birth", ("birth_month", "birthMonth"), _BIRTH, "month"),
    _Field("birth", ("birth_day", "birthDay"), _BIRTH, "day"),
    _Field("name", ("last_name", "lastName", "lastname", "last"), (MetaKey.LN,), "last"),
    _Field("name", ("first_name", "firstName", "firstname", "first"), (MetaKey.FN,), "first"),
    _Field("city", ("city", "address_city"), (MetaKey.CT,), in_address=("city",)),
    _Field("state", ("state", "address_state"), (MetaKey.ST,), in_address=("state",)),
    _Field(
        "zip",
        ("postal_code", "postalCode", "zip", "zip_code", "zipCode"),
        (MetaKey.ZIP,),
        in_address=("postalCode", "postal_code"),
    ),
    _Field(
        "country", ("country", "country_code", "countryCode"), (MetaKey.COUNTRY,), in_address=("country",)
    ),
)
_BLANK: Final = frozenset({"", "/", "-", "null", "n/a"})


def identifiers_in(sources: Sequence[Any], options: NormalizationOptions) -> Identifiers | None:
    """Column -> value as sent, of the objects in `sources`, the first of which counts most.

    None as a value: a field of that column is in the call, and holds nothing that can be sent.
    """
    fields: dict[str, Any] = {}
    columns: set[MetaKey] = set()
    for field in _FIELDS:
        present, value = _read(field, sources)
        if present:
            columns.update(field.columns)
        if value is None:
            continue
        if field.part is None:
            fields[field.name] = value
        else:
            fields.setdefault(field.name, {})[field.part] = value
    if not columns:
        return None
    outcomes = normalize_fields(fields, options)
    found = ((column, outcomes.get(column)) for column in MetaKey if column in columns)
    return {column.value: item.value if isinstance(item, Normalized) else None for column, item in found}


def identifiers_of_claim(
    traits: Any, properties: Any, context: dict[str, Any] | None, options: NormalizationOptions
) -> Identifiers | None:
    """Of a call that Engage or a warehouse makes: what it has is about the person, wherever it stands."""
    context = context or {}
    identifiers = identifiers_in([traits, properties, context.get("traits")], options)
    device = device_identifier(context.get("device"), trusted=True)
    if device is not None:
        identifiers = {**(identifiers or {}), MetaKey.MADID.value: device}
    return identifiers


def identifiers_of_row(row: dict[str, Any], options: NormalizationOptions) -> Identifiers | None:
    """Of the whole call that a warehouse's row is; the nulls of a deleted one say nothing of the person."""
    identifiers = identifiers_of_claim(row.get("traits"), row.get("properties"), row.get("context"), options)
    if identifiers is None or row.get("event") != DELETED:
        return identifiers
    return {column: value for column, value in identifiers.items() if value is not None} or None


def device_identifier(device: Any, *, trusted: bool) -> str | None:
    """The mobile advertising id of `context.device`; from a call not `trusted`, only with tracking allowed."""
    if type(device) is not dict or not (trusted or device.get("adTrackingEnabled") is True):
        return None
    outcome = normalize_mobile_id(device.get("advertisingId"))
    return str(outcome.value) if isinstance(outcome, Normalized) else None


def _read(field: _Field, sources: Sequence[Any]) -> tuple[bool, Any]:
    """Whether the field is there at all, and its first value that is not blank."""
    present = False
    for source in sources:
        if type(source) is not dict:
            continue
        for place in field.places:
            if place in source:
                present = True
                if not _is_blank(source[place]):
                    return True, source[place]
        address = source.get("address") if field.in_address else None
        if type(address) is dict:
            for place in field.in_address:
                if place in address:
                    present = True
                    if not _is_blank(address[place]):
                        return True, address[place]
    return present, None


def _is_blank(value: Any) -> bool:
    return value is None or (type(value) is str and value.strip().lower() in _BLANK)
