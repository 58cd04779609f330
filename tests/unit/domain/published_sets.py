"""Sets of audiences, and versions of them as they are published one after the other."""

from __future__ import annotations

from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.published import (
    Published,
    next_version,
)
from schemas.control import DefinitionsRecord
from tests.unit.domain.plans import START

ONE = "{name: One, when: {event: A, within: 30d}}"
TWO = "{name: Two, when: {event: A, within: 20d}}"
THREE = "{name: Three, when: {event: A, within: 10d}}"


def of(*audiences: str, traits: str = "{}") -> DefinitionSet:
    text = f"audiences: [{', '.join(audiences)}]\ntraits: {traits}"
    return parse_definitions([Document("audiences.yaml", text)])


def published(*sets: DefinitionSet) -> Published:
    versions: dict[int, DefinitionsRecord] = {}
    newest = None
    for definitions in sets:
        newest = next_version(newest, definitions, START)
        versions[newest.number] = newest
    return Published(versions)


# --- apply ---


BASE = of(
    "{name: A, when: {event: A, within: 30d, count: {at_least: 3}}}",
    "{name: T, when: {trait: plan, equals: pro}}",
    "{name: Engaged, key: a_engaged, source: engage}",
    "{name: Rows, key: a_rows, source: reverse_etl, rows: {where: {$.x: 1}}}",
    "{name: Later, key: a_later, when: {event: L}, include_history: false}",
    "{name: Mode, when: {event: A, within: 9d}, facebook: {sync_mode: upsert}}",
    "{name: Emptied, when: {event: A, within: 9d}, facebook: {on_delete: clear}}",
    "{name: Several, when: {event: A, within: 9d}, facebook: [{ad_account_id: act_1}, {ad_account_id: act_2, on_delete: clear}]}",
)
KEPT = "{name: A, when: {event: A, within: 30d}}"
