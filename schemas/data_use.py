"""What Facebook may do with people that it is sent: limits of their use, as its customer lists know them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Message

_Place = Annotated[int, Field(ge=0, le=1_000_000_000)]


class DataProcessing(Message):
    """Columns of Meta's Limited Data Use. `options`: `LDU`, or none: not limited.

    `country` and `state` are Meta's numbers, such as 1 and 1000 for California; without them Meta looks where a
    person is.
    """

    options: list[Literal["LDU"]] = Field(max_length=1)
    country: _Place | None = None
    state: _Place | None = None

    @model_validator(mode="after")
    def _place_of_a_limit(self) -> Self:
        if (self.country is None) is not (self.state is None):
            raise ValueError("country and state are given together, or neither")
        if self.country is not None and not self.options:
            raise ValueError("country and state belong to the option LDU")
        return self
