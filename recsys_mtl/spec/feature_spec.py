"""Feature spec, version 1: what a row is, what the columns mean, what is predicted.

The classes hold field-level rules only. Rules across fields (`S0xx`) live in
`rules.py`, so that every problem is reported at its own line even when other
fields failed to parse.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recsys_mtl.spec.base import Duration, FromList, Name, Strict

ASSIGN = "assign"
"""Value of `keys.row_id` that numbers rows by file and order."""


class HashIds(Strict):
    """Ids by hashing: `1 + h64(value, seed) mod buckets`."""

    kind: Literal["hash"]
    buckets: int = Field(ge=2, le=2**31 - 1, description="number of hash buckets")
    seed: int = Field(description="seed of the hash; part of the model's contract")


class VocabIds(Strict):
    """Ids by a vocabulary fitted on train rows: out-of-vocabulary ids first, then by count."""

    kind: Literal["vocab"]
    min_count: int = Field(1, ge=1, description="rarer values are out of vocabulary")
    max_size: int = Field(1_000_000, ge=1, description="allocated capacity, not the fitted count")
    oov_buckets: int = Field(1, ge=1, description="ids shared by values outside the vocabulary")


class RangeIds(Strict):
    """Ids of small integers: `2 + value`; out of range gives id 1."""

    kind: Literal["range"]
    size: int = Field(ge=2, description="values lie in [0, size)")


Ids = Annotated[HashIds | VocabIds | RangeIds, Field(discriminator="kind")]


class Table(Strict):
    """One embedding table; features that name it share it."""

    dim: int = Field(ge=4, le=1024, multiple_of=4, description="width of one embedding")
    ids: Ids

    @property
    def num_oov(self) -> int:
        """Ids after 0 (missing) that stand for unknown values."""
        match self.ids:
            case HashIds():
                return 0
            case VocabIds(oov_buckets=n):
                return n
            case RangeIds():
                return 1

    @property
    def num_embeddings(self) -> int:
        """Rows to allocate: missing, unknown and known ids; equal for every refit."""
        match self.ids:
            case HashIds(buckets=n) | VocabIds(max_size=n) | RangeIds(size=n):
                return 1 + self.num_oov + n


TimeUnit = Literal["s", "ms", "us"]


class Keys(Strict):
    """Columns that identify a row; `group` and `time` are optional, what needs them refuses."""

    row_id: str = Field(description="unique integer or string column, or `assign`")
    group: str | None = Field(None, description="cluster of the standard errors, e.g. the user")
    time: str | None = Field(None, description="event time in UTC")
    time_unit: TimeUnit = Field("us", description="unit of an integer time column")


class Join(Strict):
    """A side table, one row per key; its columns are read as `<side>.<column>`."""

    side: Name
    key: str = Field(description="key column, of this name in the source and in the side table")


class EventLog(Strict):
    """A behaviour log from which histories are built, ordered by time or by position."""

    key: str = Field(description="key column, of this name in the source and in the log")
    time: str | None = Field(None, description="event time in UTC")
    time_unit: TimeUnit = Field("us", description="unit of an integer time column")
    position: str | None = Field(
        None, description="order of a log without time, all of it known before the rows"
    )


class Observed(Strict):
    """Rows on which a label is defined: `column` equals the integer."""

    column: str
    equals: int


class BinaryLabel(Strict):
    """A label in {0, 1}; null means unobserved."""

    name: Name
    kind: Literal["binary"] = "binary"
    column: str
    positive: Annotated[tuple[str | int, ...], FromList] | None = Field(
        None, description="values that mean 1; without it the column holds 0 and 1"
    )
    observed: Observed | None = None
    parent: Name | None = Field(None, description="label that must be 1 before this one can be")
    maturity: Duration = Field("0s", description="time after which a row's label is final")


class SurvivalLabel(Strict):
    """How long something lasts, in whole days of age: at risk from `entry` to `exit`, inclusive."""

    name: Name
    entry: str = Field(description="integer column: first day at risk")
    exit: str = Field(description="integer column: last day at risk")
    event: str = Field(description="column: 1 where it ended on day `exit`, 0 where censored")
    cause: str | None = Field(None, description="string column: why it ended")
    causes: Annotated[tuple[Name, ...], FromList] = Field(
        (), description="values of `cause`, each with a hazard of its own"
    )
    weight: str | None = Field(None, description="number column: weight of the row, not negative")
    horizons: Annotated[tuple[PositiveInt, ...], FromList] = Field(
        min_length=1, description="read-outs: P(ends within so many days)"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that it reads."""
        optional = (self.cause, self.weight)
        return (self.entry, self.exit, self.event, *(name for name in optional if name))

    @property
    def num_causes(self) -> int:
        """Hazards (Q)."""
        return max(1, len(self.causes))


class Source(Strict):
    """One stream of rows with its own keys, side tables, behaviour logs and labels."""

    keys: Keys
    joins: Annotated[tuple[Join, ...], FromList] = ()
    events: dict[Name, EventLog] = Field(default_factory=dict)
    labels: Annotated[tuple[BinaryLabel, ...], FromList] = ()
    survival: SurvivalLabel | None = Field(None, description="a time-to-event label")


Side = Literal["user", "item", "context"]


class IdFeature(Strict):
    """One id per row."""

    kind: Literal["id"]
    name: Name
    side: Side = "context"
    column: str | None = Field(None, description="`name` when absent; `<side>.<column>` of a join")
    table: Name
    sources: Annotated[tuple[Name, ...], FromList] | None = Field(
        None, description="all when absent"
    )


class IdListFeature(Strict):
    """Up to `max_len` ids per row, pooled; longer lists keep their first ids."""

    kind: Literal["id_list"]
    name: Name
    side: Side = "context"
    column: str | None = None
    table: Name
    max_len: int = Field(ge=1, le=10_000)
    pooling: Literal["sum", "mean"] = "mean"
    separator: str | None = Field(None, description="splits a string column into a list")
    ngrams: int = Field(
        1, ge=1, le=5, description="of words: also pairs, triples, ... of neighbours as ids"
    )
    sources: Annotated[tuple[Name, ...], FromList] | None = None


class Step(Strict):
    """One step of a number's transform; exactly one field is set (rule S013/S014)."""

    clip: Annotated[tuple[float, float], FromList] | None = None
    log1p: Literal[True] | None = None
    zscore: Literal["fit"] | Annotated[tuple[float, float], FromList] | None = Field(None)
    bucketize: Annotated[tuple[float, ...], FromList] | None = Field(None, min_length=1)


class Missing(Strict):
    """What stands for a null or NaN; `fill` is in the transformed space."""

    fill: float = 0.0
    indicator: bool = False


class NumberFeature(Strict):
    """One float per row, or one id of a `range` table when bucketised."""

    kind: Literal["number"]
    name: Name
    side: Side = "context"
    column: str | None = None
    transform: Annotated[tuple[Step, ...], FromList] = ()
    missing: Missing = Missing()
    table: Name | None = Field(None, description="only with `bucketize`")
    sources: Annotated[tuple[Name, ...], FromList] | None = None


class VectorFeature(Strict):
    """A given vector per row, for example the embedding of an image or a text; null is zeros."""

    kind: Literal["vector"]
    name: Name
    side: Side = "context"
    column: str | None = None
    dim: int = Field(ge=1, le=4096, description="numbers in each list")
    sources: Annotated[tuple[Name, ...], FromList] | None = None


Feature = Annotated[
    IdFeature | IdListFeature | NumberFeature | VectorFeature, Field(discriminator="kind")
]


class SequenceField(Strict):
    """One id per event of a sequence."""

    name: Name
    kind: Literal["id"] = "id"
    column: str = Field(description="list column of the row, or a column of the event log")
    table: Name
    target: Name | None = Field(
        None,
        description="id feature on the same table that target attention compares with",
    )


class EventFilter(Strict):
    """Events that count: `column` equals the integer or string."""

    column: str
    equals: int | str


class EventsRef(Strict):
    """Build the sequence from a behaviour log of the source."""

    log: Name
    where: EventFilter | None = None


class Sequence(Strict):
    """A behaviour history, oldest to newest, in aligned fields.

    Fed either by list columns of the row (`fields[].column`, with `time` a list
    of event times) or by `events`, from which ingestion builds it point-in-time.
    """

    name: Name
    behaviour: Name
    max_len: int = Field(ge=1, le=20_000, description="the newest events are kept")
    time: str | None = Field(None, description="list column of event times (UTC), pre-joined only")
    cutoff: Duration = Field("0s", description="event time < row time - cutoff")
    events: EventsRef | None = None
    fields: Annotated[tuple[SequenceField, ...], FromList] = Field(min_length=1)
    sources: Annotated[tuple[Name, ...], FromList] | None = None


class TimeSplit(Strict):
    """Split by time: train before `valid_from`, test from `test_from` on."""

    policy: Literal["time"]
    valid_from: date = Field(strict=False)
    test_from: date = Field(strict=False)
    embargo: Duration = Field("0s", description="gap before valid and before test; rows dropped")


class ColumnSplit(Strict):
    """Split by a column's value; part of train may serve as validation."""

    policy: Literal["column"]
    column: str
    train: str
    test: str
    valid: str | None = Field(None, description="value of validation rows")
    valid_fraction: float | None = Field(
        None, gt=0, lt=1, description="share of train rows, chosen by hash of row_id"
    )


Split = Annotated[TimeSplit | ColumnSplit, Field(discriminator="policy")]


class Bounds(Strict):
    """Overrides of the quality bounds for one feature."""

    max_null_rate: float | None = Field(None, ge=0, le=1)


class Quality(Strict):
    """Bounds that training data must keep; beyond them the run is rejected."""

    max_null_rate: float = Field(0.05, ge=0, le=1)
    max_unmatched_rate: float = Field(0.05, ge=0, le=1, description="rows without a side row")
    per_feature: dict[Name, Bounds] = Field(default_factory=dict)


class FeatureSpec(Strict):
    """The whole file; `view` narrows it to what one source sees."""

    spec_version: Literal[1]
    name: Name
    sources: dict[Name, Source] = Field(min_length=1)
    tables: dict[Name, Table] = Field(default_factory=dict)
    features: Annotated[tuple[Feature, ...], FromList] = Field(min_length=1)
    sequences: Annotated[tuple[Sequence, ...], FromList] = ()
    split: Split
    quality: Quality = Quality()

    def features_of(self, source: str) -> tuple[Feature, ...]:
        """Features of one source, in file order."""
        return tuple(f for f in self.features if f.sources is None or source in f.sources)

    def sequences_of(self, source: str) -> tuple[Sequence, ...]:
        """Sequences of one source, in file order."""
        return tuple(s for s in self.sequences if s.sources is None or source in s.sources)
