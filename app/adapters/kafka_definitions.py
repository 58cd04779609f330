"""The published audience definitions in audience.control, which all workers of an installation share."""

from __future__ import annotations

from typing import Any

import orjson

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_log import LogReader
from schemas.control import DefinitionRecord

_KIND = b"definition|"


class PublishedDefinitions:
    """Blocking."""

    def __init__(self, reader: LogReader, producer: DurableProducer, topic: str) -> None:
        self._reader = reader
        self._producer = producer
        self._topic = topic

    def read(self) -> dict[str, dict[str, Any]]:
        """The newest published form of every audience, by key."""
        records = self._reader.latest_values(self._topic, 1)
        found = [DefinitionRecord.model_validate_json(v) for k, v in records.items() if k.startswith(_KIND)]
        return {record.audience: record.definition for record in found}

    def publish(self, definitions: dict[str, dict[str, Any]], published_at: int) -> None:
        """Write the forms of audiences that were never published before."""
        for audience, definition in definitions.items():
            record = DefinitionRecord(audience=audience, definition=definition, published_at=published_at)
            value = orjson.dumps(record.model_dump(mode="json"))
            self._producer.produce(self._topic, value, _KIND + audience.encode())
        self._producer.flush()
