"""Audience definitions from a YAML file or a folder of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.room import PROFILE_EVENTS
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

# Of one file; text is never longer in characters than in bytes.
MAX_BYTES = 1_048_576
SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def read_definitions(path: Path, profile_events: int = PROFILE_EVENTS) -> DefinitionSet:
    """The definitions of a file, or of all *.yaml, *.yml and *.json directly in a folder, as one set.

    `profile_events`: see `parse_definitions`. Hidden files of a folder are left out. Raises InvalidInputError, naming every file that cannot be read, or
    every problem within them.
    """
    files = _files(path)
    documents: list[Document] = []
    problems: list[str] = []
    for file in files:
        try:
            documents.append(Document(str(file), _read_text(file)))
        except InvalidInputError as error:
            problems.append(str(error))
    if problems:
        raise InvalidInputError("\n".join(problems))
    return parse_definitions(documents, profile_events)


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix in SUFFIXES and not file.name.startswith(".") and not file.is_dir()
        )
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {_reason(error)}") from error
    if not files:
        raise InvalidInputError(f"{path}: the folder has no file that ends in .yaml, .yml or .json")
    return files


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidInputError(f"{file}: there is no such file: name the audience definitions") from error
    except OSError as error:
        raise InvalidInputError(f"{file}: cannot be read: {_reason(error)}") from error
    if len(content) > MAX_BYTES:
        raise InvalidInputError(f"{file}: larger than {MAX_BYTES:,} bytes: split it into a folder of files")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(f"{file}:{line}: not UTF-8: save the file in that encoding") from error


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
