"""Options of bottoms, towers and heads. Torch-free, so that reading a pipeline file stays fast."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recsys_mtl.spec.base import FromList, Strict


class ConcatBottomConfig(Strict):
    """Concatenate pooled features, numbers, and sequences by mean and by target attention."""

    kind: Literal["concat"] = "concat"
    sequence_pooling: Annotated[tuple[Literal["mean", "attention"], ...], FromList] = Field(
        ("mean", "attention"), description="read-outs of each sequence field"
    )
    attention_hidden: PositiveInt = Field(36, description="hidden width of the attention scorer")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the concatenated input")


BottomConfig = ConcatBottomConfig


class SharedBottomConfig(Strict):
    """One MLP for all tasks (`model.tower` with kind shared_bottom)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    hidden: Annotated[tuple[PositiveInt, ...], FromList] = Field((128,), description="inner widths")
    dim: PositiveInt = Field(64, description="width of the shared representation (D)")


class MMoEConfig(Strict):
    """Multi-gate mixture of experts (`model.tower` with kind mmoe)."""

    kind: Literal["mmoe"] = "mmoe"
    num_experts: int = Field(4, ge=1, le=256, description="experts shared by all tasks (K)")
    expert_hidden: Annotated[tuple[PositiveInt, ...], FromList] = Field(
        (), description="widths of inner expert layers"
    )
    expert_dim: PositiveInt = Field(64, description="width of each expert's output (D)")
    gate_norm: Literal["none", "layernorm"] = Field(
        "layernorm", description="normalisation of the gates' input"
    )


TowerConfig = Annotated[SharedBottomConfig | MMoEConfig, Field(discriminator="kind")]


class HeadConfig(Strict):
    """Per-task MLP from the tower's output to one logit."""

    hidden: Annotated[tuple[PositiveInt, ...], FromList] = Field((64,), description="inner widths")
    dropout: float = Field(0.0, ge=0, lt=1)


class ModelConfig(Strict):
    """Bottom, tower, heads and how funnel labels are chained."""

    bottom: BottomConfig = ConcatBottomConfig()
    tower: TowerConfig = MMoEConfig()
    head: HeadConfig = HeadConfig()
    chain: Literal["product", "independent"] = Field(
        "product",
        description="product: a label with a parent is an entire-space chain of conditional rates",
    )
