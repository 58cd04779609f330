"""Versions of the Graph and Marketing API, and whether a person has to choose another one.

Source: Meta's pages on versions and their ends, as of 2026-11. A Marketing version that has no successor's date yet
lives about a year, and at least 90 days beside its successor; after its end Meta serves the next one in its place or
refuses the call (code 2635).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

# So long before an end it is spoken of.
WARN_DAYS: Final = 90
WARN_DAYS_UNANNOUNCED: Final = 30
_USUAL_LIFE: Final = timedelta(days=365)
_BESIDE_SUCCESSOR: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Life:
    """`marketing_end` is what counts here; `graph_end` comes later. None: not announced."""

    released: date
    graph_end: date | None = None
    marketing_end: date | None = None


LIVES: Final[dict[str, Life]] = {
    "v21.0": Life(date(2024, 10, 2), date(2027, 1, 21), date(2025, 9, 9)),
    "v22.0": Life(date(2025, 1, 21), date(2027, 5, 20), date(2026, 2, 19)),
    "v23.0": Life(date(2025, 5, 29), date(2027, 10, 8), date(2026, 6, 9)),
    "v24.0": Life(date(2025, 10, 8), date(2028, 2, 18), date(2026, 10, 6)),
    "v25.0": Life(date(2026, 2, 18), date(2028, 7, 29)),
    "v26.0": Life(date(2026, 7, 29)),
}
_OLDEST, _NEWEST = next(iter(LIVES)), next(reversed(LIVES))
_ADVICE: Final = (
    f"look at Meta's changelog, and set AUDIENCE_SYNC_FACEBOOK_API_VERSION to a newer one, such as {_NEWEST}"
)


@dataclass(frozen=True, slots=True)
class VersionState:
    """`text` describes the version. `warning`: its end is near or has come, and `fix` is what a person does then."""

    text: str
    warning: str | None = None
    fix: str | None = None
    ended: bool = False

    @property
    def said(self) -> str | None:
        """The warning with what to do."""
        return None if self.warning is None else f"{self.warning}: {self.fix}"


def version_state(version: str, today: date) -> VersionState:
    """Of a version such as v25.0; `today` in UTC."""
    life = LIVES.get(version)
    if life is None and _number(version) < _number(_OLDEST):
        return _ended(version, f"before {LIVES[_OLDEST].marketing_end}")
    if life is None:
        return VersionState(f"{version}, of which this release knows no end")
    end = life.marketing_end
    if end is None:
        return _unannounced(version, expected_end(version), today)
    if end <= today:
        return _ended(version, f"on {end}")
    days = (end - today).days
    text = f"{version}, which Meta serves until {end}"
    if days > WARN_DAYS:
        return VersionState(text)
    return VersionState(text, f"API version {version} ends on {end}, in {days} days", _ADVICE)


def expected_end(version: str) -> date:
    """Of a known version without an announced end, by how long they usually live."""
    life = LIVES[version]
    later = [other.released for other in LIVES.values() if other.released > life.released]
    return max([life.released + _USUAL_LIFE, *(released + _BESIDE_SUCCESSOR for released in later[:1])])


def _unannounced(version: str, expected: date, today: date) -> VersionState:
    text = f"{version}, served by Meta; its end is not announced, and expected about {expected}"
    if (expected - today).days > WARN_DAYS_UNANNOUNCED:
        return VersionState(text)
    warning = f"API version {version} may end soon: Meta has announced no day, and versions like it end about {expected}"
    return VersionState(text, warning, _ADVICE)


def _ended(version: str, when: str) -> VersionState:
    warning = f"API version {version} ended {when}, and calls fail or are answered by another one"
    return VersionState(f"{version}, which Meta ended {when}", warning, _ADVICE, ended=True)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("v").split("."))
