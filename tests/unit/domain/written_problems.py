"""What is wrong with definitions as they are written."""

from __future__ import annotations

import pytest

from app.domain.definitions import Document, parse_definitions
from app.errors import InvalidInputError


def problems(*texts: str) -> list[str]:
    names = ["audiences.yaml", "b.yaml"]
    with pytest.raises(InvalidInputError) as caught:
        parse_definitions([Document(name, text) for name, text in zip(names, texts, strict=False)])
    return str(caught.value).splitlines()


def the_problem(when: str) -> str:
    """The one problem of a condition, without its place."""
    found = problems(f"audiences:\n  - name: A\n    when: {when}")
    assert len(found) == 1
    place, _, text = found[0].partition(": audiences[0].when")
    assert place == "audiences.yaml:3"
    return text
