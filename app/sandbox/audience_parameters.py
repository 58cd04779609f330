"""Checks what a caller may say about an audience when creating or changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.sandbox import values
from app.sandbox.errors import invalid_parameter
from app.sandbox.state import CUSTOM, LOOKALIKE

if TYPE_CHECKING:
    from app.sandbox.options import SandboxOptions

SUBTYPES = frozenset(
    [
        "APP",
        "BAG_OF_ACCOUNTS",
        "BIDDING",
        "CLAIM",
        "CUSTOM",
        "ENGAGEMENT",
        "EXCLUSION",
        "FOX",
        "LOOKALIKE",
        "MANAGED",
        "MEASUREMENT",
        "MESSENGER_SUBSCRIBER_LIST",
        "OFFLINE_CONVERSION",
        "PARTNER",
        "PRIMARY",
        "REGULATED_CATEGORIES_AUDIENCE",
        "STUDY_RULE_AUDIENCE",
        "VIDEO",
        "WEBSITE",
    ]
)
FILE_SOURCES = frozenset({"USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"})
MAX_RETENTION_DAYS = 180


def read_new_audience(parameters: values.Parameters, options: SandboxOptions) -> dict[str, Any]:
    """The attributes of a new audience; `name` is there, the rest only as far as it was given."""
    attributes = read_changes(parameters, options)
    if "name" not in attributes:
        raise invalid_parameter("The parameter name is required", blame="name")
    attributes["subtype"] = values.choice(parameters, "subtype", SUBTYPES) or CUSTOM
    attributes["is_value_based"] = values.boolean(parameters, "is_value_based") or False
    if attributes["subtype"] == LOOKALIKE:
        attributes["origin_audience_id"] = values.text(parameters, "origin_audience_id")
        attributes["lookalike_spec"] = values.mapping(parameters, "lookalike_spec")
        for name in ("origin_audience_id", "lookalike_spec"):
            if not attributes[name]:
                raise invalid_parameter(f"The parameter {name} is required for a lookalike", blame=name)
    return attributes


def read_changes(parameters: values.Parameters, options: SandboxOptions) -> dict[str, Any]:
    """The attributes that may also be changed later, as far as they were given."""
    given = {
        "name": _name(parameters, options),
        "description": values.text(parameters, "description"),
        "customer_file_source": values.choice(parameters, "customer_file_source", FILE_SOURCES),
        "retention_days": values.integer(parameters, "retention_days", 1, MAX_RETENTION_DAYS),
        "opt_out_link": _link(parameters),
        "audience_labels": values.texts(parameters, "audience_labels"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _name(parameters: values.Parameters, options: SandboxOptions) -> str | None:
    name = values.text(parameters, "name")
    if name is None:
        return None
    if not name.strip():
        raise values.expected("name", "a name that is not blank")
    if len(name) > options.max_name_length:
        raise values.expected("name", f"at most {options.max_name_length} characters long")
    return name


def _link(parameters: values.Parameters) -> str | None:
    link = values.text(parameters, "opt_out_link")
    if not link:
        return link
    try:
        parts = urlsplit(link)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise values.expected("opt_out_link", "a URL")
    return link
