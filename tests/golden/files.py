"""The files of each release: a record as it is in Kafka, and beside it what it says, in plain values."""

from __future__ import annotations

import json
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from app.domain.state import ProfileState
from tests.golden.samples import FORMATS, samples

HERE = Path(__file__).parent
_ROOT = HERE.parent.parent


class Fields(dict[str, Any]):
    """A record's fields, of which later releases have more; any other dict is a map, which has to be the same."""


def this_release() -> str:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def plain(value: Any) -> Any:
    """What JSON can say of it."""
    if isinstance(value, ProfileState) and value.owner is None:
        # It rests packed until it is asked for.
        _ = value.identifiers
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        known = {name: getattr(value, name) for name in names}
        return Fields({name: plain(item) for name, item in known.items() if item is not msgspec.UNSET})
    if isinstance(value, BaseModel):
        return Fields({name: plain(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return f"bytes {value.hex()}"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(expected: Any, found: Any, at: str = "") -> list[str]:
    """What is not as expected, each with its place."""
    if isinstance(expected, dict) and isinstance(found, dict):
        more = set() if isinstance(found, Fields) else found.keys() - expected.keys()
        lines = [f"{at}.{key}: not expected" for key in sorted(more)]
        for key, item in expected.items():
            lines += (
                differences(item, found[key], f"{at}.{key}") if key in found else [f"{at}.{key}: missing"]
            )
        return lines
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for place, (one, other) in pairs for line in differences(one, other, f"{at}[{place}]")]
    same = type(expected) is type(found) and expected == found
    return [] if same else [f"{at}: expected {expected!r}, found {found!r}"]


def releases() -> list[Path]:
    return sorted(path for path in HERE.iterdir() if path.is_dir() and path.name[0].isdigit())


def record_files(release: Path) -> list[Path]:
    return sorted(path for path in release.iterdir() if not path.name.endswith(".expected.json"))


def expectation(record: Path) -> Path:
    return record.with_name(f"{record.stem}.expected.json")


def read(record: Path) -> Any:
    """With today's code."""
    return FORMATS[record.name.partition(".")[0]].read(record.read_bytes())


def written() -> dict[str, bytes]:
    """By file name, the samples as today's code writes them."""
    return {
        f"{name}.{case}.{FORMATS[name].suffix}": FORMATS[name].write(record)
        for name, cases in samples().items()
        for case, record in cases.items()
    }


def write(release: Path) -> int:
    """Write the files of a release anew; returns how many records there are."""
    release.mkdir(exist_ok=True)
    for old in release.iterdir():
        old.unlink()
    records = written()
    for name, encoded in records.items():
        path = release / name
        path.write_bytes(encoded)
        says = json.dumps(plain(read(path)), indent=1, ensure_ascii=False)
        expectation(path).write_text(f"{says}\n", encoding="utf-8")
    return len(records)
