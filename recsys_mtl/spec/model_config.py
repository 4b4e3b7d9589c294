"""Options of bottoms, towers and heads. Torch-free, so that reading a pipeline file stays fast."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from recsys_mtl.spec.base import FromList, Name, Strict

Widths = Annotated[tuple[PositiveInt, ...], FromList]
Dropout = Annotated[float, Field(ge=0, lt=1)]
ExpertStyle = Literal["relu", "bn_silu"]
"""`relu`: Linear + ReLU, the classic expert. `bn_silu`: Linear + batch norm + SiLU, the experts of
HoME, and of the "starred" MMoE* and PLE*."""


class ConcatBottomConfig(Strict):
    """Concatenate pooled features, numbers, and sequences by mean and by target attention."""

    kind: Literal["concat"] = "concat"
    sequence_pooling: Annotated[tuple[Literal["mean", "attention"], ...], FromList] = Field(
        ("mean", "attention"), description="read-outs of each sequence field"
    )
    attention_hidden: PositiveInt = Field(36, description="hidden width of the attention scorer")
    dropout: Dropout = Field(0.0, description="dropout on the concatenated input")


class DtrnBottomConfig(Strict):
    """A representation of its own for every task: conditioned transformer and refinement."""

    kind: Literal["dtrn"] = "dtrn"
    dim: PositiveInt = Field(32, description="width of an event inside the transformer (d)")
    heads: PositiveInt = Field(2, description="attention heads; divide `dim`")
    layers: PositiveInt = Field(1, description="transformer layers (L)")
    ff: PositiveInt = Field(64, description="inner width of the transformer's MLP")
    task_dim: PositiveInt = Field(8, description="width of a task or behaviour embedding")
    hyper_hidden: PositiveInt = Field(32, description="hidden width of the hypernetwork")
    attention_hidden: PositiveInt = Field(36, description="hidden width of the attention scorer")
    interests: bool = Field(True, description="task-specific interests; mean of events if false")
    refinement: bool = Field(True, description="task-specific weights of the fields")
    dropout: Dropout = Field(0.0, description="dropout on the concatenated input")


BottomConfig = Annotated[ConcatBottomConfig | DtrnBottomConfig, Field(discriminator="kind")]


class SingleTaskConfig(Strict):
    """One MLP per task; nothing but the tables is shared (`model.tower` with kind single_task)."""

    kind: Literal["single_task"] = "single_task"
    hidden: Widths = Field((128,), description="inner widths")
    dim: PositiveInt = Field(64, description="width of each task's representation (D)")


class SharedBottomConfig(Strict):
    """One MLP for all tasks (`model.tower` with kind shared_bottom)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    hidden: Widths = Field((128,), description="inner widths")
    dim: PositiveInt = Field(64, description="width of the shared representation (D)")


class Routing(Strict):
    """Sparse routing: each gate sends a row to a few experts only."""

    top_k: PositiveInt = Field(2, description="experts per row and task")
    balance: float = Field(0.01, ge=0, description="weight of the load-balancing loss")


class MMoEConfig(Strict):
    """Multi-gate mixture of experts (`model.tower` with kind mmoe)."""

    kind: Literal["mmoe"] = "mmoe"
    num_experts: int = Field(8, ge=1, le=256, description="experts shared by all tasks (K)")
    expert_hidden: Widths = Field((), description="widths of inner expert layers")
    expert_dim: PositiveInt = Field(64, description="width of each expert's output (D)")
    expert_style: ExpertStyle = Field("relu", description="`bn_silu` makes it MMoE*")
    gate_norm: Literal["none", "layernorm"] = Field(
        "layernorm", description="normalisation of the gates' input"
    )
    routing: Routing | None = Field(None, description="sparse gates; dense when absent")


class PLEConfig(Strict):
    """Progressive layered extraction; one level is CGC (`model.tower` with kind ple)."""

    kind: Literal["ple"] = "ple"
    levels: PositiveInt = Field(2, description="extraction levels; 1 is CGC")
    num_shared: int = Field(4, ge=0, le=256, description="shared experts per level")
    num_specific: int = Field(1, ge=0, le=256, description="experts of each task per level")
    expert_hidden: Widths = Field((), description="widths of inner expert layers")
    expert_dim: PositiveInt = Field(64, description="width of each expert's output (D)")
    expert_style: ExpertStyle = Field("relu", description="`bn_silu` makes it PLE*")


class HoMEConfig(Strict):
    """Hierarchy of experts by task category (`model.tower` with kind home)."""

    kind: Literal["home"] = "home"
    meta_shared: PositiveInt = Field(3, description="shared experts of the meta level")
    meta_category: PositiveInt = Field(2, description="experts of each category, meta level")
    num_shared: PositiveInt = Field(2, description="shared experts of the task level")
    num_category: PositiveInt = Field(1, description="experts of each category, task level")
    num_specific: PositiveInt = Field(1, description="experts of each task")
    meta_dim: PositiveInt = Field(64, description="width of a meta expert's output (D1)")
    expert_dim: PositiveInt = Field(64, description="width of a task-level expert's output (D2)")
    feature_gate: bool = True
    feature_rank1: PositiveInt | None = Field(
        None, description="rank of the meta level's feature gates; input width / 32 when absent"
    )
    feature_rank2: PositiveInt | None = Field(
        None, description="rank of the task level's feature gates; meta_dim / 8 when absent"
    )
    self_gate: bool = True


class ApemConfig(Strict):
    """Set attention over fields and a pattern selector per task (kind apem)."""

    kind: Literal["apem"] = "apem"
    dim: PositiveInt = Field(16, description="width of a field token (d)")
    groups: PositiveInt = Field(2, description="parallel transformer groups (G)")
    blocks: PositiveInt = Field(1, description="set attention blocks per group (L)")
    inducing: PositiveInt = Field(4, description="inducing vectors of a block (m)")
    heads: PositiveInt = Field(2, description="attention heads; divide `dim`")
    squeeze: PositiveInt = Field(3, description="reduction of squeeze-and-excitation (r)")
    indicators: PositiveInt = Field(4, description="indicator vectors per task (S)")


class AitmConfig(Strict):
    """Adaptive information transfer along the funnel (kind aitm)."""

    kind: Literal["aitm"] = "aitm"
    hidden: Widths = Field((128, 64), description="inner widths of each task's MLP")
    dim: PositiveInt = Field(32, description="width of a task's representation (k)")
    dropout: Dropout = Field(0.0, description="dropout after every layer")


class MultiTabConfig(Strict):
    """Masked attention between task tokens and feature tokens (kind multitab)."""

    kind: Literal["multitab"] = "multitab"
    dim: PositiveInt = Field(16, description="width of a token (e)")
    heads: PositiveInt = Field(4, description="attention heads; divide `dim`")
    ff: PositiveInt = Field(256, description="inner width of the block's MLP")
    dropout: Dropout = Field(0.0, description="dropout on attention and MLP")


TowerConfig = Annotated[
    SingleTaskConfig
    | SharedBottomConfig
    | MMoEConfig
    | PLEConfig
    | HoMEConfig
    | ApemConfig
    | AitmConfig
    | MultiTabConfig,
    Field(discriminator="kind"),
]


class HeadConfig(Strict):
    """Per-task MLP from the tower's output to one logit."""

    hidden: Widths = Field((64,), description="inner widths")
    dropout: Dropout = 0.0
    start: Literal["one_half", "base_rate"] = Field(
        "one_half",
        description="what an untrained head predicts: `base_rate`, the rate among training rows, "
        "keeps the predictions of new ids right; `one_half` can rank rare labels better",
    )


Edges = Annotated[tuple[PositiveInt, ...], FromList]


class DailyHazardConfig(Strict):
    """Daily hazards of each cause of a survival label, constant inside intervals of age."""

    kind: Literal["daily"] = "daily"
    edges: Edges = Field(
        (1, 3, 5, 7, 10, 30, 60, 90, 120), description="ages in days between which it is constant"
    )
    hidden: Widths = Field((32,), description="inner widths")


class TwoGridConfig(Strict):
    """Hazards per interval of one stop on a short and a long grid of age, as two terms of a loss.

    After Kitada et al. (JSAI 2020; arXiv 2204.11588); the value of `short_share` is our reading.
    """

    kind: Literal["two_grids"] = "two_grids"
    short: Edges = Field((1, 3, 5, 7, 10), description="edges in days of age")
    long: Edges = Field(
        (1, 10, 30, 60, 90, 120), description="edges in days of age; one is the last of `short`"
    )
    short_share: float = Field(0.5, ge=0, le=1, description="lambda, weight of the short term")
    hidden: Widths = Field((32,), description="inner widths, shared by both")

    @property
    def edges(self) -> tuple[int, ...]:
        """The short grid, and the long one from its end on."""
        return (*self.short, *(edge for edge in self.long if edge > self.short[-1]))


HazardConfig = Annotated[DailyHazardConfig | TwoGridConfig, Field(discriminator="kind")]


class ModelConfig(Strict):
    """Bottom, tower, heads and how funnel labels are chained."""

    bottom: BottomConfig = ConcatBottomConfig()
    tower: TowerConfig = MMoEConfig()
    head: HeadConfig = HeadConfig()
    chain: Literal["product", "conditional", "calibrated", "independent"] = Field(
        "product",
        description="how a label with a parent is modelled. product: entire-space chain of "
        "conditional rates; conditional: the same chain by its exact likelihood; calibrated: "
        "end-to-end rates with a hinge against p_child > p_parent; independent: no chain",
    )
    hinge: PositiveFloat = Field(0.6, description="weight of the hinge of a calibrated chain")
    hazard: HazardConfig = DailyHazardConfig()
    task_groups: dict[Name, Annotated[tuple[Name, ...], FromList]] = Field(
        default_factory=dict, description="categories of tasks, for towers with a hierarchy"
    )
