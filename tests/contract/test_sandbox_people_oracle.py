"""People, which works by indexes, against a list that is searched from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from app.sandbox.people import EXTERN_ID_LIFE_SECONDS, People

KEYS = ("EXTERN_ID", "EMAIL", "PHONE", "MADID")

values = st.sampled_from("ab")
rows = st.one_of(
    st.fixed_dictionaries({}, optional=dict.fromkeys((*KEYS, "FN"), values)).filter(bool),
    st.dictionaries(st.sampled_from(["FN", "LN"]), values, min_size=1),
    st.dictionaries(st.sampled_from(["EXTERN_ID", "EMAIL"]), values, min_size=1),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove"]), rows, st.sampled_from([0, 1, EXTERN_ID_LIFE_SECONDS / 2])
    ),
    max_size=40,
)


@dataclass(eq=False)
class _Somebody:
    cells: dict[str, str]
    known: dict[str, set[str]] = field(default_factory=dict)
    named_at: float = 0.0

    def learn(self, row: dict[str, str], now: float) -> None:
        self.cells |= row
        for key in KEYS:
            if key in row:
                self.known.setdefault(key, set()).add(row[key])
        if "EXTERN_ID" in row:
            self.named_at = now

    def is_meant_by(self, row: dict[str, str]) -> bool:
        common = [key for key in KEYS if key in row and key in self.known]
        return bool(common) and row[common[0]] in self.known[common[0]]


def _add(everybody: list[_Somebody], row: dict[str, str], now: float) -> None:
    if not set(row) & set(KEYS):
        if all(one.cells != row for one in everybody):
            everybody.append(_Somebody(dict(row), named_at=now))
        return
    for key in (key for key in KEYS if key in row):
        meant = [one for one in everybody if one.is_meant_by(row) and row[key] in one.known.get(key, ())]
        meant.sort(key=lambda one: "EXTERN_ID" not in one.known)
        if meant:
            meant[0].learn(row, now)
            return
    somebody = _Somebody({})
    somebody.learn(row, now)
    somebody.named_at = now
    everybody.append(somebody)


def _remove(everybody: list[_Somebody], row: dict[str, str], now: float) -> None:
    for one in [one for one in everybody if one.is_meant_by(row)]:
        others = any(row[key] in one.known.get(key, ()) for key in KEYS[1:] if key in row)
        if "EXTERN_ID" not in row or others or now - one.named_at < EXTERN_ID_LIFE_SECONDS:
            everybody.remove(one)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_people_are_who_a_plain_search_says(steps: list[tuple[str, dict[str, str], float]]) -> None:
    people, everybody, now = People(), list[_Somebody](), 0.0
    for what, row, later in steps:
        now += later
        if what == "add":
            people.add(dict(row), now)
            _add(everybody, row, now)
        else:
            people.remove(dict(row), now)
            _remove(everybody, row, now)
        assert [person.cells for person in people] == [one.cells for one in everybody]
        assert people.matched == len(people)
