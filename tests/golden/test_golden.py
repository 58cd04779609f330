"""What every release has written is read by today's code, and says the same."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from pydantic import BaseModel

import schemas
import schemas.profile
from app.domain import forgetting, state
from schemas.profile import ProfileEventModel
from tests.golden.files import (
    HERE,
    differences,
    expectation,
    plain,
    read,
    record_files,
    releases,
    this_release,
    written,
)

RECORDS = [
    pytest.param(path, id=f"{path.parent.name}/{path.name}") for r in releases() for path in record_files(r)
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_says_what_it_said_then(record: Path) -> None:
    expected = json.loads(expectation(record).read_text(encoding="utf-8"))
    assert differences(expected, plain(read(record))) == []


def test_todays_records_are_written_as_the_files_of_this_release_have_them() -> None:
    """A format that changes on purpose: `python -m tests.golden`, and see CONTRIBUTING.md."""
    committed = {path.name: path.read_bytes() for path in record_files(HERE / this_release())}
    assert {
        name: (committed.get(name), value)
        for name, value in written().items()
        if committed.get(name) != value
    } == {}
    assert committed.keys() == written().keys()


def versioned(module: Any) -> set[str]:
    """The records that a module defines: all with a version of their own."""
    names = set()
    for name, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__ != module.__name__ or name.startswith("_") or name.endswith("Model"):
            continue
        if issubclass(found, msgspec.Struct):
            fields = found.__struct_fields__
        else:
            fields = tuple(found.model_fields) if issubclass(found, BaseModel) else ()
        if "version" in fields:
            names.add(name)
    return names


def test_every_format_has_files() -> None:
    modules = [
        importlib.import_module(f"schemas.{each.name}") for each in pkgutil.iter_modules(schemas.__path__)
    ]
    formats = {name for module in (*modules, state, forgetting) for name in versioned(module)}
    assert {"MembershipDelta", "ProfileState", "SyncState"} <= formats
    # A call of Segment's, which has no version.
    formats.add("EngageCall")
    assert {path.name.partition(".")[0] for path in record_files(HERE / this_release())} == formats


def test_every_kind_of_profile_event_has_a_file() -> None:
    kinds = {
        read(path).kind
        for path in record_files(HERE / this_release())
        if path.name.startswith("ProfileEvent.")
    }
    assert kinds == set(get_args(ProfileEventModel.model_fields["kind"].annotation))


# A forwarder is read as the state that it stands for.
FULL = [
    path
    for path in record_files(HERE / this_release())
    if ".full." in path.name and not path.name.startswith("ForwarderRecord")
]


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_a_full_record_leaves_no_field_at_its_default(path: Path) -> None:
    """Else a field could come and go without a file that says so."""
    record = read(path)
    if isinstance(record, msgspec.Struct):
        defaults = {
            field.name: field.default_factory()
            if field.default_factory is not msgspec.NODEFAULT
            else field.default
            for field in msgspec.structs.fields(type(record))
        }
    else:
        defaults = {
            name: field.get_default(call_default_factory=True)
            for name, field in type(record).model_fields.items()
        }
    left = {name for name, default in defaults.items() if getattr(record, name) == default}
    assert left <= {"version"}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ([1], [1, 2]),
        (1, 1.0),
        (True, 1),
        ([{"a": None}], [{"a": 0}]),
    ],
)
def test_differences_are_seen(expected: Any, found: Any) -> None:
    assert differences(expected, found)
