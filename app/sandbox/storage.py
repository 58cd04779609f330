"""Keeps a sandbox's state in a file between two runs: JSON, replaced as a whole or not at all.

The request log, the faults, open upload sessions and what has been used of the limits are not kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from app.errors import AudienceSyncError, InvalidInputError
from app.sandbox.options import SandboxClock, SandboxOptions
from app.sandbox.people import PERSON_KEYS, People, Person, identifiers_of
from app.sandbox.state import Audience, Details, SandboxState

if TYPE_CHECKING:
    from pathlib import Path


def _nameable(people: list[Person]) -> list[Person]:
    for person in people:
        texts = all(isinstance(value, str) for value in identifiers_of(person.cells).values())
        if not texts or not person.cells or not person.former.keys() <= set(PERSON_KEYS):
            raise ValueError("a person's identifiers are not as they were written")
    return people


@dataclass(slots=True)
class _StoredAudience:
    details: Details
    people: Annotated[list[Person], AfterValidator(_nameable)]


@dataclass(slots=True)
class _Stored:
    version: Literal[1]
    clock_advanced_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    audiences: list[_StoredAudience]
    accounts_without_terms: list[str] = field(default_factory=list)


_FORMAT = TypeAdapter(_Stored)


def load_state(path: Path, options: SandboxOptions) -> tuple[SandboxState, SandboxClock]:
    """What `save_state` wrote; a new state when there is no such file yet.

    Raises InvalidInputError when the file cannot be read or is something else, and when its folder is missing.
    """
    state, clock = SandboxState(options.match_share), SandboxClock(options.now)
    if not path.parent.is_dir():
        raise InvalidInputError(f"state file {path}: the folder {path.parent} does not exist. Make it first.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return state, clock
    except OSError as error:
        raise InvalidInputError(f"state file {path} cannot be read: {error.strerror}") from error
    try:
        stored = _FORMAT.validate_json(content)
        clock.advance(stored.clock_advanced_seconds)
        state.accounts_without_terms |= set(stored.accounts_without_terms)
        for one in stored.audiences:
            state.restore(Audience(one.details, People(options.match_share, one.people)))
    except (ValidationError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"state file {path} was not written by a sandbox ({_reason(error)}). Name another file, or delete it."
        ) from error
    return state, clock


def save_state(path: Path, state: SandboxState, clock: SandboxClock) -> None:
    """Raises AudienceSyncError when it cannot be written; the file of before is then still whole."""
    stored = _Stored(
        version=1,
        clock_advanced_seconds=clock.advanced_seconds,
        audiences=[_StoredAudience(audience.details, list(audience.people)) for audience in state],
        accounts_without_terms=sorted(state.accounts_without_terms),
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(_FORMAT.dump_json(stored))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise AudienceSyncError(f"state file {path} cannot be written: {error.strerror}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return str(error)
