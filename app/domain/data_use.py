"""Consent and limits of use that are sent with people: which hold for a destination, and how a request has them.

Source: Meta's guide to customer lists. `customer_consent` stands beside the payload; Limited Data Use is up to three
columns of the schema, the same in every row. Both are of people who are added: a removal has neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from schemas.audience import FacebookDestination
    from schemas.data_use import DataProcessing

OPTIONS: Final = "DATA_PROCESSING_OPTIONS"
COUNTRY: Final = "DATA_PROCESSING_OPTIONS_COUNTRY"
STATE: Final = "DATA_PROCESSING_OPTIONS_STATE"


@dataclass(frozen=True, slots=True)
class DataUse:
    """None: nothing is said, and Meta's own default holds."""

    consent: bool | None = None
    processing: DataProcessing | None = None

    @property
    def columns(self) -> tuple[tuple[str, Any], ...]:
        """Keys of the schema and the cell that each row has under them."""
        found = self.processing
        if found is None:
            return ()
        places = ((COUNTRY, found.country), (STATE, found.state))
        return (
            (OPTIONS, list(found.options)),
            *((key, number) for key, number in places if number is not None),
        )

    @property
    def beside(self) -> dict[str, Any]:
        """What stands in the body beside the payload."""
        return {} if self.consent is None else {"customer_consent": self.consent}

    def extended(
        self, schema: Sequence[str], data: Sequence[Sequence[Any]]
    ) -> tuple[list[str], Sequence[Sequence[Any]]]:
        """Schema and rows with the columns; the rows given stay as they are."""
        columns = self.columns
        if not columns:
            return list(schema), data
        cells = [cell for _, cell in columns]
        return [*schema, *(key for key, _ in columns)], [[*row, *cells] for row in data]

    def without_columns(self, invalid: Mapping[str, str]) -> dict[str, str]:
        """Refused rows as Meta names them, the JSON of what was sent, as they were before `extended`."""
        width = len(self.columns)
        if not width:
            return dict(invalid)
        return {_shortened(text, width): reason for text, reason in invalid.items()}


NOTHING_SAID: Final = DataUse()


def data_use_of(mapping: FacebookDestination, default: DataUse) -> DataUse:
    """A destination's own word, else the settings', for either apart."""
    own, limit = mapping.customer_consent, mapping.data_processing_options
    return DataUse(default.consent if own is None else own, default.processing if limit is None else limit)


def _shortened(text: str, width: int) -> str:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.dumps(row[:-width]).decode() if isinstance(row, list) else text
