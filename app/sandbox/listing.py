"""Pages and filters the audiences of an ad account."""

from __future__ import annotations

import base64
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from app.sandbox import values
from app.sandbox.errors import invalid_parameter
from app.sandbox.nodes import View, audience_node, check_audience_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.sandbox.state import Audience

DEFAULT_LIMIT = 25
_LARGEST_LIMIT = 2**31 - 1
_CURSOR_MARK = b"sandbox:"
_POSITION = re.compile(_CURSOR_MARK + rb"([0-9]{1,18})").fullmatch

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUAL": operator.eq,
    "NOT_EQUAL": operator.ne,
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_OR_EQUAL": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_OR_EQUAL": operator.le,
    "IN": lambda actual, wanted: actual in wanted,
    "NOT_IN": lambda actual, wanted: actual not in wanted,
    "CONTAIN": lambda actual, wanted: wanted in actual,
    "NOT_CONTAIN": lambda actual, wanted: wanted not in actual,
    "STARTS_WITH": lambda actual, wanted: actual.startswith(wanted),
    "ENDS_WITH": lambda actual, wanted: actual.endswith(wanted),
}


@dataclass(frozen=True, slots=True)
class Filter:
    field: str
    test: Callable[[Any, Any], bool]
    wanted: Any

    def holds(self, view: View) -> bool:
        name, _, member = self.field.partition(".")
        actual = audience_node(view, [name]).get(name)
        if member:
            actual = actual.get(member) if isinstance(actual, dict) else None
        try:
            return actual is not None and self.test(actual, self.wanted)
        except (TypeError, AttributeError) as error:
            raise invalid_parameter(
                f"Filtering on {self.field} has a value of a wrong type", "filtering"
            ) from error


def page(
    audiences: Sequence[Audience],
    view_of: Callable[[Audience], View],
    parameters: values.Parameters,
    url: str,
    query: Mapping[str, str],
) -> dict[str, Any]:
    """One page of `audiences`, newest first. `url` and `query` are the caller's, for the link to the next one."""
    fields = values.texts(parameters, "fields") or ["id"]
    check_audience_fields(fields)
    limit = values.integer(parameters, "limit", 1, _LARGEST_LIMIT) or DEFAULT_LIMIT
    filters = _filters(parameters)
    views = [view for view in map(view_of, audiences) if all(one.holds(view) for one in filters)]
    shown = _cut(views, limit, _position(parameters, "after"), _position(parameters, "before"))
    if not shown:
        return {"data": []}
    first, last = (_cursor(view.audience.details.sequence) for view in (shown[0], shown[-1]))
    paging: dict[str, Any] = {"cursors": {"before": first, "after": last}}
    if shown[-1] is not views[-1]:
        paging["next"] = _link(url, query, "after", last)
    if shown[0] is not views[0]:
        paging["previous"] = _link(url, query, "before", first)
    return {"data": [audience_node(view, fields) for view in shown], "paging": paging}


def _cut(views: list[View], limit: int, after: int | None, before: int | None) -> list[View]:
    """Cursors are places in the order of creation, so that they outlive the audience they were made for."""
    if after is not None:
        views = [view for view in views if view.audience.details.sequence < after]
    if before is not None:
        return [view for view in views if view.audience.details.sequence > before][-limit:]
    return views[:limit]


def _filters(parameters: values.Parameters) -> list[Filter]:
    rules = values.opened(parameters.get("filtering"))
    if rules is None:
        return []
    if not isinstance(rules, list):
        raise values.expected("filtering", "a list of field, operator and value")
    found = []
    for rule in rules:
        if not isinstance(rule, dict) or not isinstance(rule.get("field"), str) or "value" not in rule:
            raise values.expected("filtering", "a list of field, operator and value")
        if not isinstance(rule.get("operator"), str) or rule["operator"] not in _OPERATORS:
            raise invalid_parameter(
                "This sandbox serves filtering with " + ", ".join(_OPERATORS), "filtering"
            )
        check_audience_fields([rule["field"].partition(".")[0]])
        found.append(Filter(rule["field"], _OPERATORS[rule["operator"]], rule["value"]))
    return found


def _cursor(sequence: int) -> str:
    return base64.urlsafe_b64encode(_CURSOR_MARK + str(sequence).encode()).decode()


def _position(parameters: values.Parameters, name: str) -> int | None:
    cursor = values.text(parameters, name)
    if not cursor:
        return None
    try:
        position = _POSITION(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except ValueError:
        position = None
    if position is None:
        raise invalid_parameter("Invalid cursors values", name)
    return int(position[1])


def _link(url: str, query: Mapping[str, str], name: str, cursor: str) -> str:
    kept = {key: value for key, value in query.items() if key not in {"after", "before"}}
    return f"{url}?{urlencode({**kept, name: cursor})}"
