"""What can be changed of a sandbox while it runs: behaviour that the API documents as optional, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from app.sandbox.options import SandboxOptions

Version = Annotated[str, Field(pattern=r"^v[0-9]{1,3}\.[0-9]{1,3}$")]
_LIMITS = ("tier", "calls_per_hour", "score", "score_error")
_REPLACE = {
    "replace_seconds": "seconds",
    "replace_fails": "fails",
    "replace_late_status": "late_status",
    "replace_max_people": "max_people",
}
_MAY_BE_NULL = {"versions", "app_secret", "calls_per_hour", "score", "score_error"}
_SETS = ("versions", "ended_versions")


class Switches(BaseModel):
    """Those that are given; the others stay as they are. Meanings are those of `SandboxOptions` and what it is made
    of.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    versions: list[Version] | None = None
    ended_versions: list[Version] | None = None
    ended_version: Literal["upgrade", "refuse"] | None = None
    app_secret: str | None = Field(default=None, repr=False)
    require_proof: bool | None = None
    max_custom_audiences: int | None = Field(default=None, ge=0)
    max_name_length: int | None = Field(default=None, ge=1)
    max_rows: int | None = Field(default=None, ge=1)
    too_many_rows: Literal["unknown error", "invalid parameter"] | None = None
    empty_samples_as_list: bool | None = None
    size_delay_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    min_delivery_size: int | None = Field(default=None, ge=0)
    min_people_left: int | None = Field(default=None, ge=0)
    tier: Literal["standard_access", "development_access"] | None = None
    calls_per_hour: int | None = Field(default=None, ge=0)
    score: int | None = Field(default=None, ge=0)
    score_error: Literal["17", "613"] | None = None
    replace_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    replace_fails: bool | None = None
    replace_late_status: Literal[200, 415] | None = None
    replace_max_people: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _is_something(self) -> Switches:
        for name in sorted(self.model_fields_set - _MAY_BE_NULL):
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self

    def applied(self, options: SandboxOptions) -> SandboxOptions:
        """The options as they are from now on. A null puts back what is there by default, where that is nothing."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        limits = {name: given.pop(name) for name in _LIMITS if name in given}
        replacing = {_REPLACE[name]: given.pop(name) for name in _REPLACE if name in given}
        for name in _SETS:
            if given.get(name) is not None:
                given[name] = frozenset(given[name])
        return replace(
            options,
            **given,
            limits=replace(options.limits, **limits),
            replace=replace(options.replace, **replacing),
        )


def shown(options: SandboxOptions) -> dict[str, Any]:
    """All of them but the secret."""
    values: dict[str, Any] = {}
    for name in Switches.model_fields:
        if name in _LIMITS:
            values[name] = getattr(options.limits, name)
        elif name in _REPLACE:
            values[name] = getattr(options.replace, _REPLACE[name])
        elif name != "app_secret":
            value = getattr(options, name)
            values[name] = sorted(value) if isinstance(value, frozenset) else value
    return values
