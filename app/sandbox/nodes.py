"""What reading shows of an audience or an ad account: the asked-for fields, never the people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.sandbox.errors import unknown_field
from app.sandbox.state import CUSTOM, LOOKALIKE, Audience, SandboxState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.sandbox.options import SandboxOptions

SMALLEST_SHOWN_SIZE = 1000
"""Up to so many people the API shows this number for both bounds: it is no count."""

_NOT_MATCHED_YET = -1
FLAGGED = 471

# Fields the API knows and for which a customer list made here has nothing to show: left out of answers.
_KNOWN_BUT_EMPTY = frozenset(
    [
        "data_source_types",
        "datafile_custom_audience_uploading_status",
        "delete_time",
        "excluded_custom_audiences",
        "included_custom_audiences",
        "external_event_source",
        "household_audience",
        "is_eligible_for_sac_campaigns",
        "is_household",
        "is_snapshot",
        "messenger_marketing_messages_page",
        "owner_business",
        "page_deletion_marked_delete_time",
        "pixel_id",
        "regulated_audience_spec",
        "rev_share_policy_id",
        "rule",
        "rule_aggregation",
        "rule_v2",
        "seed_audience",
        "sharing_status",
    ]
)


@dataclass(frozen=True, slots=True)
class View:
    """One audience as seen at one instant."""

    audience: Audience
    state: SandboxState
    options: SandboxOptions
    now: float

    @property
    def size(self) -> int | None:
        return self.audience.details.published_size(self.now)


def bounds(people: int | None) -> tuple[int, int]:
    """Lower and upper bound as shown: a privacy bucket, else two significant digits below and above."""
    if people is None:
        return _NOT_MATCHED_YET, _NOT_MATCHED_YET
    if people <= SMALLEST_SHOWN_SIZE:
        return SMALLEST_SHOWN_SIZE, SMALLEST_SHOWN_SIZE
    step = 10 ** (len(str(people)) - 2)
    return people // step * step, -(-people // step) * step


_REPLACE_STATUS = {414: "Replace in progress.", 415: "Replace failed."}


def _operation_status(view: View) -> dict[str, Any]:
    if view.audience.details.flagged:
        return {"code": FLAGGED, "description": "Flagged for violating the integrity policy."}
    code = view.state.replacements.status_of(view.audience.details.id)
    if code in _REPLACE_STATUS:
        return {"code": code, "description": _REPLACE_STATUS[code]}
    if view.size is None and view.audience.details.subtype == CUSTOM:
        return {"code": 410, "description": "No data has been uploaded yet."}
    return {"code": 200, "description": "Normal"}


def _delivery_status(view: View) -> dict[str, Any]:
    if (view.size or 0) < view.options.min_delivery_size:
        return {"code": 300, "description": "This audience is smaller than it should be and is not active."}
    return {"code": 200, "description": "This audience is ready for use."}


def _permissions(view: View) -> dict[str, bool]:
    return {
        "can_edit": True,
        "can_see_insight": True,
        "can_share": True,
        "subtype_supports_lookalike": view.audience.details.subtype != LOOKALIKE,
        "supports_recipient_lookalike": False,
    }


def _data_source(view: View) -> dict[str, str]:
    details = view.audience.details
    kind = "FILE_IMPORTED" if details.subtype == CUSTOM else "UNKNOWN"
    return {"type": kind, "sub_type": details.data_source or "ANYTHING", "creation_params": "[]"}


_FIELDS: dict[str, Callable[[View], Any]] = {
    "id": lambda view: view.audience.details.id,
    "account_id": lambda view: view.audience.details.ad_account_id.removeprefix("act_"),
    "name": lambda view: view.audience.details.name,
    "description": lambda view: view.audience.details.description,
    "subtype": lambda view: view.audience.details.subtype,
    "customer_file_source": lambda view: view.audience.details.customer_file_source,
    "is_value_based": lambda view: view.audience.details.is_value_based,
    "retention_days": lambda view: view.audience.details.retention_days,
    "opt_out_link": lambda view: view.audience.details.opt_out_link or None,
    "audience_labels": lambda view: view.audience.details.audience_labels or None,
    "data_source": _data_source,
    "approximate_count_lower_bound": lambda view: bounds(view.size)[0],
    "approximate_count_upper_bound": lambda view: bounds(view.size)[1],
    "delivery_status": _delivery_status,
    "operation_status": _operation_status,
    "permission_for_actions": _permissions,
    "fields_violating_integrity_policy": lambda view: view.audience.details.flagged or None,
    "lookalike_audience_ids": lambda view: view.state.lookalikes_of(view.audience.details.id) or None,
    "lookalike_spec": lambda view: view.audience.details.lookalike_spec,
    "time_created": lambda view: int(view.audience.details.time_created),
    "time_updated": lambda view: int(view.audience.details.time_updated),
    "time_content_updated": lambda view: int(view.audience.details.time_content_updated),
}


def check_audience_fields(fields: Sequence[str]) -> None:
    for name in fields:
        if name not in _FIELDS and name not in _KNOWN_BUT_EMPTY:
            raise unknown_field(name, "CustomAudience")


def audience_node(view: View, fields: Sequence[str]) -> dict[str, Any]:
    """The asked-for fields, checked before, and `id`; empty fields are left out."""
    node = {name: _FIELDS[name](view) for name in (*fields, "id") if name in _FIELDS}
    return {name: value for name, value in node.items() if value is not None}


def account_node(
    ad_account_id: str,
    fields: Sequence[str],
    options: SandboxOptions,
    tasks: frozenset[str],
    *,
    terms_accepted: bool,
) -> dict[str, Any]:
    """As it is shown to who has these `tasks` in it; empty fields are left out."""
    number = ad_account_id.removeprefix("act_")
    known: dict[str, Any] = {
        "account_id": number,
        "account_status": 1,
        "name": f"Sandbox ad account {number}",
        "tos_accepted": {"custom_audience_tos": 1} if terms_accepted else {},
        "user_tasks": sorted(tasks) or None,
        "business": _business(ad_account_id, options),
        "id": ad_account_id,
    }
    for name in fields:
        if name not in known:
            raise unknown_field(name, "AdAccount")
    node = {name: known[name] for name in (*fields, "id")}
    return {name: value for name, value in node.items() if value is not None}


def _business(ad_account_id: str, options: SandboxOptions) -> dict[str, str] | None:
    linked = ad_account_id not in options.accounts_without_business
    return {"id": "1001", "name": "Sandbox business"} if linked else None
