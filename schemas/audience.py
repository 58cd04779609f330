"""Audience definitions: the language of audiences.yaml as models.

The models are the normal form of the language: defaults merged, short forms spelt out, durations in
milliseconds. Reading YAML, with file and line in every error, is `app.domain.definitions`' business.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schemas.base import Message
from schemas.data_use import DataProcessing

Scalar = str | int | float | bool

# Of an audience's key; it is part of record keys and destination ids, so `|` and `@` have no place in it.
KEY_PATTERN = r"^[a-z0-9_]{1,200}$"


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
    """`path` OPERATOR `operand`; durations as operands (within_last ...) are milliseconds, dates are UTC."""

    path: str
    operator: Operator
    operand: Operand


class CountBound(Message):
    """`kind` of bound and its whole number, 0 or more."""

    kind: Literal["at_least", "at_most", "exactly"]
    number: Annotated[int, Field(ge=0)]


class AggregateFunction(StrEnum):
    SUM = "sum"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"


class Aggregate(Message):
    """FUNCTION of `property_path` over the counted events, compared under each of `comparisons`."""

    function: AggregateFunction
    property_path: str
    comparisons: Annotated[list[tuple[Operator, float | TraitReference]], Field(min_length=1)]


class Window(Message):
    """Ages of the events that count: `near_ms` <= age < `far_ms`, with age = now - timestamp."""

    far_ms: int
    near_ms: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _spans_time(self) -> Self:
        if self.far_ms <= self.near_ms:
            raise ValueError("a window's far age must be greater than its near age")
        return self


class _Kind(Message):
    """A condition; its `kind` is written even where defaults are left out, or it could not be read back."""

    kind: str

    @model_serializer(mode="wrap")
    def _keep_kind(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {"kind": self.kind, **written}


class ThenCondition(Message):
    """What must follow a funnel's parent event: events after it, and with `within_ms` less than that after it."""

    event: str
    count: CountBound
    within_ms: Annotated[int, Field(gt=0)] | None = None
    where: list[Comparison] = Field(default_factory=list)
    context: list[Comparison] = Field(default_factory=list)


class EventCondition(_Kind):
    """Events named `event` that pass every comparison, inside `window` (None: ever), in number and sum.

    With `then` only those which it holds of are counted and aggregated.
    """

    kind: Literal["event"] = "event"
    event: str
    count: CountBound
    window: Window | None = None
    where: list[Comparison] = Field(default_factory=list)
    context: list[Comparison] = Field(default_factory=list)
    exclude_sources: list[str] = Field(default_factory=list)
    aggregate: Aggregate | None = None
    then: ThenCondition | None = None


class TraitCondition(_Kind):
    """All comparisons of one trait path hold; the `path` of each is `trait` itself."""

    kind: Literal["trait"] = "trait"
    trait: str
    comparisons: Annotated[list[Comparison], Field(min_length=1)]


class AudienceReference(_Kind):
    """The profile is a member of the audience with this key, whoever decides that."""

    kind: Literal["audience"] = "audience"
    audience: Annotated[str, Field(pattern=KEY_PATTERN)]


class AllOf(_Kind):
    kind: Literal["all"] = "all"
    conditions: Annotated[list[TaggedCondition], Field(min_length=1)]


class AnyOf(_Kind):
    kind: Literal["any"] = "any"
    conditions: Annotated[list[TaggedCondition], Field(min_length=1)]


class Not(_Kind):
    kind: Literal["not"] = "not"
    condition: TaggedCondition


class Quantifier(StrEnum):
    ANY = "any"
    ALL = "all"
    NONE = "none"


class UsersCondition(_Kind):
    """Of the users of an account some, all or none satisfy `condition`. Of no users: none is true, any and all false."""

    kind: Literal["users"] = "users"
    quantifier: Quantifier
    condition: TaggedCondition


Condition = EventCondition | TraitCondition | AudienceReference | AllOf | AnyOf | Not | UsersCondition
# Chosen by `kind`: trying one class after the other would take exponential time in the depth of a condition.
TaggedCondition = Annotated[Condition, Field(discriminator="kind")]


class ComputedFunction(StrEnum):
    """How the value of a computed trait is made of events."""

    COUNT = "count"
    SUM = "sum"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"
    MOST_FREQUENT = "most_frequent"
    FIRST = "first"
    LAST = "last"
    UNIQUE_LIST = "unique_list"
    UNIQUE_LIST_COUNT = "unique_list_count"


class ComputedTraitDefinition(Message):
    """One computed trait. `property_path` is None for COUNT and no other function.

    Of the events not older than `within_ms`, and with `session_ms` only of the latest run of them in which each is
    less than that after the one before. `at_least` is how often the most frequent value must be there.
    """

    key: str
    event: str
    function: ComputedFunction
    property_path: str | None = None
    where: list[Comparison] = Field(default_factory=list)
    context: list[Comparison] = Field(default_factory=list)
    within_ms: Annotated[int, Field(gt=0)] | None = None
    session_ms: Annotated[int, Field(gt=0)] | None = None
    at_least: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _property_fits_function(self) -> Self:
        if (self.property_path is None) != (self.function is ComputedFunction.COUNT):
            raise ValueError("all functions but count are of a property")
        return self


class AudienceSource(StrEnum):
    """Who decides membership: our conditions, Segment Engage's calls, or a warehouse's rows."""

    COMPUTED = "computed"
    ENGAGE = "engage"
    REVERSE_ETL = "reverse_etl"


class Entity(StrEnum):
    """What an audience has for members: people, or accounts, whose people are sent."""

    USER = "user"
    ACCOUNT = "account"


class SyncMode(StrEnum):
    """Which rows of a warehouse a destination takes: new and updated ones add, deleted ones remove.

    Of a computed audience, UPSERT means that nobody is ever removed.
    """

    MIRROR = "mirror"
    UPSERT = "upsert"
    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"


class Rows(Message):
    """Which track calls are an audience's rows, and whom they are about; paths start at the whole call.

    Either all of the source topic `topic`, or those that pass every comparison of `where`.
    """

    topic: str | None = None
    where: list[Comparison] = Field(default_factory=list)
    id: str = "userId"

    @model_validator(mode="after")
    def _chosen_one_way(self) -> Self:
        if (self.topic is None) is not bool(self.where):
            raise ValueError("rows are chosen by `topic` or by `where`, by one of them")
        return self


class DeliveryMode(StrEnum):
    LIVE = "live"
    DRY_RUN = "dry_run"


class OnDelete(StrEnum):
    """What becomes of the people in a Facebook audience when the audience is deleted here."""

    KEEP = "keep"
    CLEAR = "clear"


class FieldSource(Message):
    """Where the value of a mapped field is taken from: a `path` into the whole call, a `trait`, or a constant."""

    path: str | None = None
    trait: str | None = None
    const: Scalar | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if sum(one is not None for one in (self.path, self.trait, self.const)) != 1:
            raise ValueError("a field is taken from one of a path, a trait and a constant")
        return self


class FacebookDestination(Message):
    """One Facebook audience in one ad account that an audience is delivered to.

    `id` is the audience key, with `@act_...` appended when the audience has several destinations.
    `ad_account_id` None: the setting decides. `audience_id` connects to an existing Facebook audience. `fields` are
    sent in place of what is found by default, by name (`name.first` for a part); the first source that gives a value
    counts. `value_based`: Facebook hears what each person is worth, the field `value`. `external_id`: whether external
    ids are sent as they are or hashed. `customer_consent` and `data_processing_options` are sent with people who are
    added; None: the settings decide.
    """

    id: str
    ad_account_id: str | None = None
    audience_id: str | None = None
    name: str | None = None
    description: str | None = None
    mode: DeliveryMode = DeliveryMode.LIVE
    sync_mode: SyncMode = SyncMode.MIRROR
    customer_file_source: Literal[
        "USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"
    ] = "USER_PROVIDED_ONLY"
    on_delete: OnDelete = OnDelete.KEEP
    fields: dict[str, list[FieldSource]] = Field(default_factory=dict)
    value_based: bool = False
    external_id: Literal["plain", "sha256"] = "plain"
    customer_consent: bool | None = None
    data_processing_options: DataProcessing | None = None

    @model_validator(mode="after")
    def _value_is_sent_to_a_list_of_values(self) -> Self:
        if self.value_based is not ("value" in self.fields):
            raise ValueError("`value` is sent to value-based audiences, all of them and no others")
        return self


class AudienceDefinition(Message):
    """One audience. `key` is its identity; `when` is None exactly for the sources that decide themselves, and
    `rows` is there exactly for a warehouse's.

    `require` must hold too for membership, whatever the source. No destinations: computed, delivered nowhere.

    Nobody is a member before `created_at`, epoch milliseconds. Without `include_history`, events received before it
    do not count, nor is anybody a member before the audience is first applied where no `created_at` is given.
    `lookback_ms` bounds the age of every event that counts.

    Of an audience of accounts `when` is about the account, with `users` conditions about its people; `require` and
    `include_anonymous` are about the people, who are sent while their account is a member.
    """

    key: Annotated[str, Field(pattern=KEY_PATTERN)]
    name: str
    description: str | None = None
    source: AudienceSource = AudienceSource.COMPUTED
    entity: Entity = Entity.USER
    when: TaggedCondition | None = None
    rows: Rows | None = None
    require: TaggedCondition | None = None
    include_anonymous: bool = False
    include_history: bool = True
    created_at: int | None = None
    lookback_ms: Annotated[int, Field(gt=0)] | None = None
    enabled: bool = True
    destinations: list[FacebookDestination] = Field(default_factory=list)

    @model_validator(mode="after")
    def _parts_fit_source(self) -> Self:
        if (self.when is not None) != (self.source is AudienceSource.COMPUTED):
            raise ValueError("`when` belongs to computed audiences, all of them and no others")
        if (self.rows is not None) != (self.source is AudienceSource.REVERSE_ETL):
            raise ValueError("`rows` belongs to audiences of a warehouse, all of them and no others")
        if self.entity is Entity.ACCOUNT and self.source is not AudienceSource.COMPUTED:
            raise ValueError("audiences of accounts are computed")
        return self

    @model_validator(mode="after")
    def _destinations_differ(self) -> Self:
        ids = [destination.id for destination in self.destinations]
        if len(set(ids)) != len(ids):
            raise ValueError("two destinations have one id")
        return self


for _model in (AllOf, AnyOf, Not, UsersCondition, AudienceDefinition):
    _model.model_rebuild()
