"""Which calls are the rows of an audience with `source: reverse_etl`, and which sync modes go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_operators import in_order, read_filter
from app.domain.definitions_values import Value, check_path, read_line, read_text
from app.domain.operators import DATE_OPERATORS, RELATIVE_OPERATORS
from app.domain.reverse_etl import ADDING_ROWS, takes_additions
from app.domain.yaml_nodes import shown
from schemas.audience import (
    AudienceSource,
    Comparison,
    ParentReference,
    Rows,
    SyncMode,
    TraitReference,
)

if TYPE_CHECKING:
    from schemas.audience import FacebookDestination

MAX_TOPIC_CHARACTERS = 249

_KEYS: Final = ("topic", "where", "id")
# Paths here start at the whole call.
_CALL: Final = "$."
_COMPUTED_MODES: Final = frozenset({SyncMode.MIRROR, SyncMode.UPSERT})


def read_rows(value: Value) -> Rows | None:
    """`rows`; None when a problem with it was reported."""
    what = "rows such as {where: {$.context.protocols.sourceId: src_9}}"
    entries = value.entries(what)
    if entries is None or not refuse_other_keys(entries, _KEYS):
        return None
    if ("topic" in entries) is ("where" in entries):
        value.refuse("rows are chosen by one of `topic` and `where`")
        return None
    before = value.findings.reports
    topic = (
        read_line(entries["topic"], "the name of a topic", MAX_TOPIC_CHARACTERS)
        if "topic" in entries
        else None
    )
    where = _read_where(entries["where"]) if "where" in entries else []
    row_id = _read_call_path(entries["id"]) if "id" in entries else "userId"
    if value.findings.reports > before or row_id is None:
        return None
    return Rows(topic=topic, where=where, id=row_id)


def _read_where(value: Value) -> list[Comparison]:
    entries = value.entries(
        "paths with what they are compared to, such as {$.context.protocols.sourceId: src_9}"
    )
    if entries is None:
        return []
    if not entries:
        value.refuse("expected at least one path")
    comparisons: list[Comparison] = []
    for written, compared in entries.items():
        path = _call_path(compared, written)
        read = None if path is None else read_filter(path, compared)
        for comparison in read or ():
            if isinstance(comparison.operand, TraitReference | ParentReference):
                compared.refuse("a row is chosen by what is in the call alone: give a value")
            elif comparison.operator in DATE_OPERATORS | RELATIVE_OPERATORS:
                compared.refuse("rows are not chosen by dates")
            else:
                comparisons.append(comparison)
    return in_order(comparisons)


def _read_call_path(value: Value) -> str | None:
    text = read_text(value, "a path such as $.userId")
    return None if text is None else _call_path(value, text, one_value=True)


def _call_path(value: Value, text: str, *, one_value: bool = False) -> str | None:
    """The path inside the call, from one that is written with the `$.` of the call."""
    if not text.startswith(_CALL):
        value.refuse(f"a path here starts at the whole call, such as $.properties.id; got {shown(text)}")
        return None
    path = text.removeprefix(_CALL)
    return path if check_path(value, path, one_value=one_value) else None


def check_sync_modes(value: Value, source: AudienceSource, destinations: list[FacebookDestination]) -> None:
    """Refuse at `value` what the audience's source has no meaning for, or one membership cannot be true to.

    Destinations of one audience share its membership. They may differ in whether they add or remove at all, and not
    in which rows add: a row that is right for one of them would be wrong for the other.
    """
    modes = [destination.sync_mode for destination in destinations]
    if source is AudienceSource.COMPUTED:
        for mode in modes:
            if mode not in _COMPUTED_MODES:
                value.refuse(
                    f"`sync_mode: {mode}` is for rows of a warehouse: a computed audience has mirror or upsert"
                )
    elif source is AudienceSource.REVERSE_ETL:
        adding = {ADDING_ROWS[mode]: mode for mode in takes_additions(modes)}
        if len(adding) > 1:
            named = " and ".join(sorted(adding.values()))
            value.refuse(
                f"the sync modes {named} add by different rows, and one audience has one membership: "
                "define an audience for each"
            )
