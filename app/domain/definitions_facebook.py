"""Where an audience is delivered to: `facebook`, one mapping or a list of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args

from app.domain.definitions_fields import read_fields
from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_values import (
    Value,
    read_boolean,
    read_choice,
    read_line,
    read_text,
    read_whole_number,
)
from schemas.audience import DeliveryMode, FacebookDestination, OnDelete, SyncMode
from schemas.data_use import DataProcessing

if TYPE_CHECKING:
    from app.domain.definitions_fields import Fields

MAX_NAME_CHARACTERS = 500

_KEYS: Final = (
    "ad_account_id",
    "audience_id",
    "name",
    "description",
    "mode",
    "sync_mode",
    "customer_file_source",
    "on_delete",
    "external_id",
)
_MAPPED: Final = ("fields", "value_based", "customer_consent", "data_processing_options")
_MOST_PLACE: Final = 1_000_000_000
_MODES: Final = tuple(mode.value for mode in DeliveryMode)
_SYNC_MODES: Final = tuple(mode.value for mode in SyncMode)
_ON_DELETE: Final = tuple(choice.value for choice in OnDelete)
_EXTERNAL_IDS: Final = get_args(FacebookDestination.model_fields["external_id"].annotation)
_SOURCES: Final = get_args(FacebookDestination.model_fields["customer_file_source"].annotation)
_AD_ACCOUNT = re.compile(r"(?:act_)?([0-9]{1,30})")
_FACEBOOK_ID = re.compile(r"[0-9]{1,30}")


def read_destinations(key: str, own: Value | None, default: Value | None) -> list[FacebookDestination]:
    """The destinations of the audience `key`; an audience that says nothing has one, and `[]` is none.

    A default mapping is merged into the audience's own mapping, or into each of its list; an own list replaces a
    default list. Problems are reported where they are, and what cannot be read is left out.
    """
    written = own or default
    if written is None:
        return [FacebookDestination(id=key)]
    merged = _read_default(own, default)
    if not written.is_list:
        entries = written.entries("a mapping such as {ad_account_id: act_123}, or a list of them")
        one = None if entries is None else _read_one(key, entries, merged)
        return [] if one is None else [one]
    items = written.items("a list") or []
    destinations: dict[str, FacebookDestination] = {}
    for item in items:
        entries = item.entries("a mapping such as {ad_account_id: act_123}")
        destination = None if entries is None else _read_one(key, entries, merged)
        if destination is not None and len(items) > 1:
            destination = _told_apart(item, destination, destinations)
        if destination is not None:
            destinations[destination.id] = destination
    return list(destinations.values())


def _read_default(own: Value | None, default: Value | None) -> dict[str, Value]:
    """What the defaults add to what the audience says."""
    if own is None or default is None or (own.is_list and default.is_list):
        return {}
    if default.is_list:
        own.refuse("`defaults` has a list of ad accounts: give a list here too, to replace it")
        return {}
    return default.entries("a mapping such as {ad_account_id: act_123}, or a list of them") or {}


def _told_apart(
    item: Value, destination: FacebookDestination, others: dict[str, FacebookDestination]
) -> FacebookDestination | None:
    """Of several, the ad account tells which is which, so it is needed and differs."""
    if destination.ad_account_id is None:
        item.refuse("`ad_account_id` is needed when there are several")
        return None
    named = destination.model_copy(update={"id": f"{destination.id}@{destination.ad_account_id}"})
    if named.id in others:
        item.refuse(f"{destination.ad_account_id} is in this list twice")
        return None
    return named


def _read_one(key: str, own: dict[str, Value], default: dict[str, Value]) -> FacebookDestination | None:
    entries = {**default, **own}
    refuse_other_keys(entries, (*_KEYS, *_MAPPED))
    fields = _read_fields(own.get("fields"), default.get("fields"))
    value_based = read_boolean(entries["value_based"]) if "value_based" in entries else False
    read: dict[str, Any] = {}
    if "customer_consent" in entries:
        read["customer_consent"] = read_boolean(entries["customer_consent"])
    if "data_processing_options" in entries:
        read["data_processing_options"] = _read_processing(entries["data_processing_options"])
    for name in _KEYS:
        if name in entries:
            read[name] = _read_entry(name, entries[name])
    if None in read.values() or fields is None or value_based is None:
        return None
    if value_based and "value" not in fields:
        entries["value_based"].refuse("what each person is worth is needed: map the field `value`")
        return None
    if "value" in fields and not value_based:
        _leave_value_out(own.get("fields"), default.get("fields"))
        fields = {name: sources for name, sources in fields.items() if name != "value"}
    return FacebookDestination(id=key, fields=fields, value_based=value_based, **read)


def _leave_value_out(own: Value | None, default: Value | None) -> None:
    """Remark on it where the field `value` is mapped: Facebook refuses what people are worth in any other audience."""
    for mapped in (own, default):
        entries = {} if mapped is None else mapped.entries("a mapping of fields") or {}
        if "value" in entries:
            entries["value"].remark(
                "left out: only value-based audiences are sent what people are worth; to send it, set `value_based: true`"
            )
            return


def _read_processing(value: Value) -> DataProcessing | None:
    """`[LDU]`, `[]`, or a mapping of them with Meta's numbers of country and state."""
    if value.is_list:
        entries = {"options": value}
    else:
        read = value.entries("[LDU], [], or a mapping such as {options: [LDU], country: 1, state: 1000}")
        if read is None:
            return None
        entries = read
    refuse_other_keys(entries, ("options", "country", "state"))
    if "options" not in entries:
        value.refuse("`options` is missing: [LDU], or [] for no limits")
        return None
    options = [read_choice(item, ("LDU",)) for item in entries["options"].items("a list, [LDU] or []") or ()]
    places = {
        name: read_whole_number(entries[name], _MOST_PLACE)
        for name in ("country", "state")
        if name in entries
    }
    if not entries["options"].is_list or None in options or None in places.values():
        return None
    if len(options) > 1:
        entries["options"].refuse("LDU is named twice")
        return None
    if places and (len(places) == 1 or not options):
        value.refuse(
            "`country` and `state` are given together, with the option LDU: leave both out to let Meta look"
        )
        return None
    return DataProcessing.model_validate({"options": options, **places})


def _read_fields(own: Value | None, default: Value | None) -> Fields | None:
    """Merged field by field."""
    read = [read_fields(value) for value in (default, own) if value is not None]
    fields: Fields = {}
    for one in read:
        if one is None:
            return None
        fields |= one
    return fields


def _read_entry(name: str, value: Value) -> str | None:
    if name == "ad_account_id":
        return _read_ad_account(value)
    if name == "audience_id":
        return _read_facebook_id(value)
    if name == "name":
        return read_line(value, "a name", MAX_NAME_CHARACTERS)
    if name == "mode":
        return read_choice(value, _MODES)
    if name == "sync_mode":
        return read_choice(value, _SYNC_MODES)
    if name == "customer_file_source":
        return read_choice(value, _SOURCES)
    if name == "external_id":
        return read_choice(value, _EXTERNAL_IDS)
    if name == "on_delete":
        return read_choice(value, _ON_DELETE)
    return read_text(value)


def _read_ad_account(value: Value) -> str | None:
    what = "an ad account such as act_1234567890"
    text = read_text(value, what)
    match = None if text is None else _AD_ACCOUNT.fullmatch(text)
    if text is not None and match is None:
        value.expected(what)
    return f"act_{match[1]}" if match else None


def _read_facebook_id(value: Value) -> str | None:
    what = "the digits of a Facebook audience's id"
    text = read_text(value, what)
    if text is not None and not _FACEBOOK_ID.fullmatch(text):
        value.expected(what)
        return None
    return text
