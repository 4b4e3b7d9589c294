"""Pipeline file, version 1: what to do with the data that a feature spec describes."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from recsys_mtl.spec.base import Duration, FromList, Name, Strict, UtcOffset
from recsys_mtl.spec.model_config import ModelConfig


class FileSet(Strict):
    """Files below `data.root`; `{date}` in the path makes one partition per day."""

    path: str = Field(description="relative path; may hold `*` or `{date}`")
    format: Literal["parquet", "csv"] = "parquet"
    date_format: str = Field("%Y-%m-%d", description="strftime form of `{date}`")


class DataConfig(Strict):
    """Where the rows, the side tables and the behaviour logs are."""

    root: str = Field(description="folder that all paths are relative to")
    source: Name = Field(description="source of the spec that is trained and scored")
    rows: FileSet | None = Field(
        None, description="its rows; absent only where `creatives` makes them of the same source"
    )
    window: Duration | None = Field(
        None,
        description="length of the training window before the interval's end; all when absent",
    )
    utc_offset: UtcOffset = Field(
        "0h", description="local time minus UTC; days of `{date}`, interval and split are local"
    )
    sides: dict[Name, FileSet] = Field(default_factory=dict)
    events: dict[Name, FileSet] = Field(default_factory=dict)


class CreativesConfig(Strict):
    """Ad-level rows (creative x landmark day), trained beside the rows of `data`, or alone.

    They are made from daily delivery logs below `data.root`; tables that both sources read are
    shared. Where `source` is that of `data`, there are no other rows. Campaigns are split by hash;
    test rows start `test` before the interval's end, and what train and validation rows know ends
    there.
    """

    source: Name
    delivery: FileSet = Field(description="daily logs, one row per creative and day")
    sides: dict[Name, FileSet] = Field(default_factory=dict)
    landmarks: Annotated[tuple[PositiveInt, ...], FromList] = Field(
        (1, 3, 7, 10, 30), description="ages in days at which a creative becomes a row"
    )
    silent_days: PositiveInt = Field(3, description="days without delivery that mean a stop")
    stop_source: Literal["flag", "silence", "either"] = "either"
    wear_out_age: PositiveInt = Field(10, description="stops from this age on are wear-out")
    ctr_weight: Literal["none", "paper", "smoothed", "ratio"] = Field(
        "ratio", description="weight of a creative's likelihood by its click rate"
    )
    batch_rows: PositiveInt = Field(256, description="ad-level rows of a step, beside other rows")
    test: Duration = Field("20d", description="length of the test window")
    valid_share: float = Field(0.1, gt=0, lt=1, description="share of campaigns")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of campaigns")


class RelativeSplit(Strict):
    """Test and validation windows counted back from the interval's end, instead of the spec's."""

    valid: Duration
    test: Duration
    embargo: Duration = "0s"


class IngestConfig(Strict):
    """How shards are made; none of it changes a byte of the rows but `shard_rows`."""

    engine: Literal["local", "ray"] = "local"
    workers: PositiveInt = Field(2, description="processes, or Ray workers")
    shard_rows: PositiveInt = Field(500_000, description="rows of one shard, about")
    reject_budget: float = Field(0.001, ge=0, le=1, description="share of rows quarantined at most")


class TaskObjective(Strict):
    """Static weight of one task's loss."""

    weight: float = Field(1.0, ge=0)


class Objectives(Strict):
    """Losses of the tasks; a task that is not named has weight 1."""

    tasks: dict[Name, TaskObjective] = Field(default_factory=dict)

    def weight(self, task: str) -> float:
        """Static weight of a task."""
        return self.tasks.get(task, TaskObjective()).weight


class DenseOptim(Strict):
    """AdamW on the dense parameters."""

    lr: PositiveFloat = 1e-3
    weight_decay: float = Field(0.0, ge=0)


class SparseOptim(Strict):
    """Fused optimiser of the embedding tables; it steps inside backward."""

    kind: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    lr: PositiveFloat = 0.02


class EarlyStop(Strict):
    """Stop when validation loss has not improved for `patience` evaluations; the best is kept."""

    every_steps: PositiveInt | None = Field(None, description="once per epoch when absent")
    patience: PositiveInt = 2


class CheckpointConfig(Strict):
    """When to write a resumable checkpoint and how many to keep."""

    every_steps: PositiveInt = 500
    keep: int = Field(3, ge=2)


class NanGuard(Strict):
    """How many non-finite batches may be skipped before training stops with exit 5."""

    max_skipped: int = Field(10, ge=0)
    per_steps: PositiveInt = 1000


class TrainingConfig(Strict):
    """The training loop."""

    seed: int
    batch_rows: PositiveInt = 4096
    epochs: PositiveInt = 2
    shuffle_rows: PositiveInt = Field(262_144, description="rows of the shuffle buffer")
    threads: PositiveInt | None = Field(None, description="torch threads; all cores when absent")
    dense: DenseOptim = DenseOptim()
    sparse: SparseOptim = SparseOptim()
    early_stop: EarlyStop = EarlyStop()
    checkpoint: CheckpointConfig = CheckpointConfig()
    nan_guard: NanGuard = NanGuard()


class EvaluationConfig(Strict):
    """What is measured besides the overall metrics."""

    slices: Annotated[tuple[str, ...], FromList] = Field((), description="id features to slice by")
    max_slices: PositiveInt = Field(20, description="values per slicing feature, by rows")
    oracle: FileSet | None = Field(
        None, description="true `p_<task>` by row id, in simulated worlds; only reported"
    )


class Floor(Strict):
    """What a first champion must reach: `auc` on a task, the rest on a survival label."""

    auc: float = Field(0.5, ge=0, le=1)
    gain: float = Field(
        0.0, ge=0, description="survival: nats per row above hazards that know only the age"
    )
    calibration: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="survival: largest distance of observed / expected from 1, for successors too",
    )


class Margins(Strict):
    """How much worse than the champion a task may be; one non-inferiority check per set field."""

    auc: PositiveFloat | None = None
    ne: PositiveFloat | None = Field(None, description="normalised entropy")
    nll: PositiveFloat | None = Field(
        None, description="negative log-likelihood of a survival label, nats per row"
    )


class GateConfig(Strict):
    """Promotion gate: non-inferiority per task, with standard errors clustered by user.

    A survival label is clustered by the group of its rows, the campaign.
    """

    alpha: float = Field(0.05, gt=0, lt=0.5)
    power: float = Field(0.9, gt=0, lt=1, description="joint, over all checks of an equal model")
    margins: dict[Name, Margins] = Field(description="one entry per task unless in `ungated`")
    ungated: Annotated[tuple[Name, ...], FromList] = ()
    floors: dict[Name, Floor] = Field(default_factory=dict)
    min_clusters: int = Field(500, ge=2)
    min_positives: int = Field(200, ge=1)
    min_campaigns: int = Field(100, ge=2, description="clusters of a survival label")
    min_stops: int = Field(100, ge=1, description="test rows of a survival label that stopped")


class ScoringConfig(Strict):
    """Rows that the champion scores."""

    rows: FileSet
    shard_rows: PositiveInt = 500_000
    columns: Annotated[tuple[Name, ...], FromList] | None = Field(
        None, description="tasks; all if absent"
    )


class TrackingConfig(Strict):
    """MLflow; sqlite below `home` unless a URI is given."""

    uri: str | None = None


class Cron(Strict):
    """When Airflow retrains."""

    cron: str
    timezone: str = "UTC"


class ScheduleConfig(Strict):
    """Scheduled work."""

    retrain: Cron
    policy: str | None = Field(
        None,
        description="policy file, relative to this file; by it creatives are decided about after "
        "scoring",
    )


class Pipeline(Strict):
    """The whole file. `spec` is relative to this file, `home` to the caller."""

    pipeline_version: Literal[1]
    name: Name
    spec: str = Field(description="feature spec, relative to this file")
    home: str = Field("out", description="folder of all artifacts, mlflow.db and reports")
    data: DataConfig
    creatives: CreativesConfig | None = Field(None, description="a survival task on ad-level rows")
    split: RelativeSplit | None = None
    ingest: IngestConfig = IngestConfig()
    model: ModelConfig = ModelConfig()
    objectives: Objectives = Objectives()
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig
    scoring: ScoringConfig | None = Field(
        None, description="required, but where all rows are ad-level: live creatives are scored"
    )
    tracking: TrackingConfig = TrackingConfig()
    schedule: ScheduleConfig | None = None
