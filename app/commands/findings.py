"""What a command that checks something prints: a line for each check, with the fix where one is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from app.errors import AudienceSyncError


@dataclass(frozen=True, slots=True)
class Finding:
    """`status`: ok, warning, failed, or skipped because of another failure; `fix` of failures and warnings."""

    check: str
    status: str
    text: str
    fix: str | None = None


def line_of(finding: Finding) -> str:
    line = f"{finding.status:<8}{finding.check}: {finding.text}"
    return line if finding.fix is None else f"{line}; fix: {finding.fix}"


def have_failed(findings: Iterable[Finding]) -> bool:
    return any(finding.status == "failed" for finding in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    return {"ok": not have_failed(findings), "checks": [asdict(finding) for finding in findings]}


def first_line(error: AudienceSyncError) -> str:
    first, *more = str(error).splitlines()
    return f"{first} (and {len(more)} more)" if more else first
