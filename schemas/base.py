"""What every pydantic model of a message has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# JSON has numbers of any length, and those who write it again have 64 bits.
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class Message(BaseModel):
    """An immutable value; an unknown key is an error, so a misspelt one is never silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=32_768)


class StoredMessage(BaseModel):
    """A record that this system wrote itself, perhaps in a newer version: unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)
