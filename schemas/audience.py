"""Audience definitions: the language of audiences.yaml as models.

The models are the normal form of the language: defaults merged, short forms spelt out, durations in
milliseconds. Reading YAML, with file and line in every error, is `app.domain.definitions`' business.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.base import Message

Scalar = str | int | float | bool


class Operator(StrEnum):
    """How a value is compared; what each does with a missing value is in docs/audience-language.md."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    GREATER_THAN = "greater_than"
    LESS_THAN = "less_than"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    ANY_OF = "any_of"
    NONE_OF = "none_of"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    CONTAINS_ANY_OF = "contains_any_of"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    EXISTS = "exists"
    BEFORE = "before"
    AFTER = "after"
    WITHIN_LAST = "within_last"
    BEFORE_LAST = "before_last"
    WITHIN_NEXT = "within_next"
    AFTER_NEXT = "after_next"


class TraitReference(Message):
    """The operand is the profile's own trait, read when the condition is evaluated."""

    trait: str


class ParentReference(Message):
    """The operand is a property of the funnel's parent event."""

    same_as: str


Operand = Scalar | list[Scalar] | TraitReference | ParentReference


class Comparison(Message):
    """`path` OPERATOR `operand`; durations as operands (within_last ...) are milliseconds."""

    path: str
    operator: Operator
    operand: Operand


class CountBound(Message):
    """`kind` of bound and its whole number, 0 or more."""

    kind: Literal["at_least", "at_most", "exactly"]
    number: int


class AggregateFunction(StrEnum):
    SUM = "sum"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"


class Aggregate(Message):
    """FUNCTION of `property_path` over the counted events, compared under each of `comparisons`."""

    function: AggregateFunction
    property_path: str
    comparisons: list[tuple[Operator, float | TraitReference]]


class Window(Message):
    """Ages of the events that count: `near_ms` <= age < `far_ms`, with age = now - timestamp."""

    far_ms: int
    near_ms: int = 0


class EventCondition(Message):
    """Events named `event` that pass every comparison, inside `window` (None: ever), in number and sum."""

    kind: Literal["event"] = "event"
    event: str
    count: CountBound
    window: Window | None = None
    where: list[Comparison] = []
    context: list[Comparison] = []
    exclude_sources: list[str] = []
    aggregate: Aggregate | None = None


class TraitCondition(Message):
    """All comparisons of one trait path hold."""

    kind: Literal["trait"] = "trait"
    trait: str
    comparisons: list[Comparison]


class AllOf(Message):
    kind: Literal["all"] = "all"
    conditions: list[Condition]


class AnyOf(Message):
    kind: Literal["any"] = "any"
    conditions: list[Condition]


class Not(Message):
    kind: Literal["not"] = "not"
    condition: Condition


Condition = EventCondition | TraitCondition | AllOf | AnyOf | Not


class AudienceSource(StrEnum):
    """Who decides membership: our conditions, Segment Engage's calls, or a warehouse's rows."""

    COMPUTED = "computed"
    ENGAGE = "engage"
    REVERSE_ETL = "reverse_etl"


class DeliveryMode(StrEnum):
    LIVE = "live"
    DRY_RUN = "dry_run"


class FacebookDestination(Message):
    """One Facebook audience in one ad account that an audience is delivered to.

    `id` is the audience key, with `@act_...` appended when the audience has several destinations.
    `ad_account_id` None: the setting decides. `audience_id` connects to an existing Facebook audience.
    """

    id: str
    ad_account_id: str | None = None
    audience_id: str | None = None
    name: str | None = None
    description: str | None = None
    mode: DeliveryMode = DeliveryMode.LIVE
    customer_file_source: Literal[
        "USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"
    ] = "USER_PROVIDED_ONLY"


class AudienceDefinition(Message):
    """One audience. `key` is its identity; `when` is None exactly for the sources that decide themselves."""

    key: str
    name: str
    description: str | None = None
    source: AudienceSource = AudienceSource.COMPUTED
    when: Condition | None = None
    require: Condition | None = None
    include_anonymous: bool = False
    enabled: bool = True
    destinations: list[FacebookDestination] = []


for _model in (AllOf, AnyOf, Not, AudienceDefinition):
    _model.model_rebuild()
