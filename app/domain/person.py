"""Who a call is about: the identifiers it carries, normalised and hashed before anything is written.

The default places are those that Segment's Facebook destinations read, under every name that they know: an identify
call's traits; of a call that Segment Engage or a warehouse makes, its properties and the traits in its context too.
Of the other calls, whose properties are about what was done, the context has the person's e-mail addresses and phone
numbers, and the device's advertising id. The person's own country in the same call guides phone number, state and
postal code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.fold import MAX_OF_ONE_KIND
from app.domain.normalization import (
    MetaKey,
    NormalizationOptions,
    Normalized,
    Unusable,
    guiding_country,
    normalize_country,
    normalize_email,
    normalize_fields,
    normalize_phone,
)
from app.domain.normalization_text import normalize_device_id
from app.domain.reverse_etl import DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.domain.left_blank import LeftBlank
    from app.domain.normalization_text import Outcome

    Identifiers = dict[str, str | float | list[str] | None]


@dataclass(frozen=True, slots=True)
class _Field:
    """An input of `normalize_fields` (`part` of an object it takes), where it is read from, and what it fills.

    The first place that is not blank counts. `several`: a list there is several values.
    """

    name: str
    places: tuple[str, ...]
    columns: tuple[MetaKey, ...]
    part: str | None = None
    in_address: tuple[str, ...] = ()
    several: bool = False


_BIRTH: Final = (MetaKey.DOBY, MetaKey.DOBM, MetaKey.DOBD)
_EMAIL: Final = _Field("email", ("email",), (MetaKey.EMAIL,), several=True)
_PHONE: Final = _Field(
    "phone", ("phone", "phone_number", "phonenumber", "phoneNumber"), (MetaKey.PHONE,), several=True
)
_COUNTRY: Final = _Field(
    "country",
    ("country", "country_code", "countryCode", "address.country"),
    (MetaKey.COUNTRY,),
    in_address=("country",),
)
_FIELDS: Final = (
    _EMAIL,
    _PHONE,
    _Field("gender", ("gender", "gen"), (MetaKey.GEN,)),
    # A date fills all three, 1 to 31 the day.
    _Field("birthday", ("birthday", "date_of_birth", "dateOfBirth", "DOB", "birth_day", "birthDay"), _BIRTH),
    _Field("birth", ("birth_year", "birthYear"), (MetaKey.DOBY,), "year"),
    _Field("birth", ("birth_month", "birthMonth"), (MetaKey.DOBM,), "month"),
    _Field("name", ("last_name", "lastName", "lastname", "last"), (MetaKey.LN,), "last"),
    _Field("name", ("first_name", "firstName", "firstname", "first"), (MetaKey.FN,), "first"),
    _Field("city", ("city", "address_city", "address.city"), (MetaKey.CT,), in_address=("city",)),
    _Field("state", ("state", "address_state", "address.state"), (MetaKey.ST,), in_address=("state",)),
    _Field(
        "zip",
        ("postal_code", "postalCode", "zip", "zip_code", "zipCode", "address.postalCode"),
        (MetaKey.ZIP,),
        in_address=("postalCode", "postal_code"),
    ),
    _COUNTRY,
)
_BLANK: Final = frozenset({"", "/", "-", "null", "n/a"})
_MOBILE_SYSTEMS: Final = frozenset({"android", "ios"})


def identifiers_in(sources: Sequence[Any], options: NormalizationOptions) -> Identifiers | None:
    """Column -> value as sent, of the objects in `sources`, the first of which counts most; several values as a list.

    None as a value: a field of that column is in the call, and holds nothing that can be sent.
    """
    found: dict[str, Any] = {}
    columns: dict[MetaKey, bool] = {}
    further: list[tuple[_Field, Any]] = []
    for field in _FIELDS:
        present, value = _read(field, sources, options.left_blank)
        if not present:
            continue
        if field.several and type(value) is list:
            # None at all where there are lists of blanks within.
            value, *others = [item for item in value if not is_blank(item)][:MAX_OF_ONE_KIND] or [None]
            further.extend((field, item) for item in others)
        # What a value says nothing of is not taken away by it: the year, by a birthday that is only a day.
        columns.update(dict.fromkeys(field.columns, value is None))
        if value is None:
            continue
        if field.part is None:
            found[field.name] = value
        else:
            found.setdefault(field.name, {})[field.part] = value
    if not columns:
        return None
    outcomes = normalize_fields(found, options)
    _note_unusable(outcomes, options)
    identifiers: Identifiers = {
        column.value: _sent(outcomes.get(column))
        for column in MetaKey
        if column in outcomes or columns.get(column)
    }
    for field, value in further:
        beside = {field.name: value, "country": found.get("country")}
        column = field.columns[0]
        outcome = normalize_fields(beside, options).get(column)
        _note_unusable({column: outcome}, options)
        _add(identifiers, column.value, _sent(outcome))
    return identifiers


def contacts_in(traits: Any, options: NormalizationOptions) -> Identifiers | None:
    """The e-mail addresses and phone numbers of `context.traits`; what is missing or unusable there says nothing."""
    sources = (traits,)
    found: Identifiers = {}
    for email in _values(_EMAIL, sources, options):
        outcome = normalize_email(email)
        _note_unusable({MetaKey.EMAIL: outcome}, options)
        _add(found, MetaKey.EMAIL.value, _sent(outcome))
    phones = _values(_PHONE, sources, options)
    if phones:
        guide = guiding_country(normalize_country(_read(_COUNTRY, sources)[1]), options)
        for phone in phones:
            outcome = normalize_phone(phone, guide)
            _note_unusable({MetaKey.PHONE: outcome}, options)
            _add(found, MetaKey.PHONE.value, _sent(outcome))
    return found or None


def _note_unusable(outcomes: Mapping[MetaKey, Outcome], options: NormalizationOptions) -> None:
    if options.left_blank is not None:
        options.left_blank.unusable(outcomes)


def _values(field: _Field, sources: Sequence[Any], options: NormalizationOptions) -> list[Any]:
    """Those of a field that may have several; blank ones left out."""
    value = _read(field, sources, options.left_blank)[1]
    if type(value) is list:
        return [item for item in value if not is_blank(item)][:MAX_OF_ONE_KIND]
    return [] if value is None else [value]


def _sent(outcome: Normalized | Unusable | None) -> str | float | None:
    return outcome.value if isinstance(outcome, Normalized) else None


def _add(identifiers: Identifiers, column: str, value: str | float | None) -> None:
    """One more value of a column that may have several, each once."""
    known = identifiers.get(column)
    if value is None or known == value or (type(known) is list and value in known):
        return
    if known is None:
        identifiers[column] = value
    else:
        identifiers[column] = [*map(str, known if type(known) is list else [known]), str(value)]


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
    """The mobile advertising id of `context.device`, unless tracking is refused or it is no phone's.

    From a call not `trusted`, only with tracking allowed. A device that does not say what it is may be a phone.
    """
    if type(device) is not dict:
        return None
    allowed = device.get("adTrackingEnabled")
    if allowed is False or not (trusted or allowed is True):
        return None
    system = device.get("type")
    if type(system) is str and system and system.lower() not in _MOBILE_SYSTEMS:
        return None
    outcome = normalize_device_id(device.get("advertisingId"))
    return str(outcome.value) if isinstance(outcome, Normalized) else None


def _read(field: _Field, sources: Sequence[Any], left_blank: LeftBlank | None = None) -> tuple[bool, Any]:
    """Whether the field is there at all, and its first value that is not blank; blanks before it are counted."""
    present = False
    for source in sources:
        if type(source) is not dict:
            continue
        for place in field.places:
            if place in source:
                present = True
                if not is_blank(source[place]):
                    return True, source[place]
                if left_blank is not None:
                    left_blank.blank(field.columns, source[place])
        address = source.get("address") if field.in_address else None
        if type(address) is dict:
            for place in field.in_address:
                if place in address:
                    present = True
                    if not is_blank(address[place]):
                        return True, address[place]
                    if left_blank is not None:
                        left_blank.blank(field.columns, address[place])
    return present, None


def default_country(whole: dict[str, Any]) -> Any:
    """The country that a call names, wherever it does, as it is; None: none."""
    context = whole.get("context")
    beside = context.get("traits") if type(context) is dict else None
    return _read(_COUNTRY, (whole.get("traits"), beside, whole.get("properties")))[1]


def is_blank(value: Any) -> bool:
    """Whether nothing is said by it, or by any item of a list."""
    if type(value) is list:
        return all(item is None or (type(item) is str and item.strip().lower() in _BLANK) for item in value)
    return value is None or (type(value) is str and value.strip().lower() in _BLANK)
