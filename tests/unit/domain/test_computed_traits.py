from __future__ import annotations

from app.domain.computed_traits import MAX_LISTED, MAX_LISTED_CHARACTERS, _listed


def test_a_list_has_its_bounds() -> None:
    assert _listed([]) is None
    assert _listed(["b", "a", "b"]) == ["a", "b"]
    many = [f"{number:05}" for number in range(MAX_LISTED + 5)]
    assert _listed(reversed(many)) == many[:MAX_LISTED]
    longest = [f"{number:04}".ljust(1_000) for number in range(MAX_LISTED_CHARACTERS // 1_000 + 5)]
    assert _listed(longest) == longest[: MAX_LISTED_CHARACTERS // 1_000]
