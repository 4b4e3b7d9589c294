"""The whole model: tables, bottom, tower, heads, chain."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_mtl.batches.batch import Batch
from recsys_mtl.embeddings.embedded import Embedded
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.models.bottoms.concat import ConcatBottom
from recsys_mtl.models.bottoms.dtrn import DtrnBottom
from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.heads.chain import chain_log_probs, chained
from recsys_mtl.models.heads.hazard import HazardHead, TwoGridHead
from recsys_mtl.models.interface import Probe
from recsys_mtl.models.towers import TowerInput, build_tower, pseudo_readers, token_dim
from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.layout import Layout
from recsys_mtl.spec.model_config import (
    ConcatBottomConfig,
    HazardConfig,
    ModelConfig,
    TwoGridConfig,
)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the heads give."""

    logits: Tensor
    """float32[B, T], in the order of the layout's tasks."""
    hazard: Tensor | None
    """What the hazard head gives, float32[B, Q, J]; None without one, or where it did not run."""


class DensePart(nn.Module):
    """Everything above the tables, trained by an ordinary optimiser."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        tasks = layout.task_names
        self.survival = layout.survival
        # By name: a bundle's JSON does not keep the order of the file.
        groups = dict(sorted(config.task_groups.items()))
        self.bottom = _build_bottom(layout, config, tuple(groups))
        given = TowerInput(
            self.bottom.out_dim,
            self.bottom.num_tokens if isinstance(self.bottom, ConcatBottom) else 0,
            layout.output_names,
            layout.parents + (-1,) * (len(layout.output_names) - len(tasks)),
            groups,
        )
        self.tower = build_tower(config.tower, given)
        self.tasks = tasks
        # Lists: a dictionary of modules refuses names such as `apply`, which a task may bear.
        self.heads = nn.ModuleList(BinaryHead(self.tower.out_dim, config.head) for _ in tasks)
        self.edges = torch.tensor(config.hazard.edges)
        """Grid of daily hazards, int64[J + 1] days of age."""
        self.hazard: HazardHead | None = None
        if layout.survival is not None:
            self.hazard = _build_hazard(self.tower.out_dim, layout.survival, config.hazard)

    def forward(
        self, embedded: Embedded, probe: Probe | None = None, with_hazard: bool = True
    ) -> Outputs:
        """Outputs of all heads, that of hazards where it is wanted; a probe sees all gates."""
        f = self.tower(self.bottom(embedded), probe)
        logits = embedded.dense.new_empty(len(embedded.dense), len(self.tasks))
        if self.tasks:
            heads = zip(self.tasks, self.heads, strict=True)
            logits = torch.stack([head(f[task]) for task, head in heads], dim=1)
        if self.hazard is None or self.survival is None or not with_hazard:
            return Outputs(logits, None)
        return Outputs(logits, self.hazard(f[self.survival.name]))

    @property
    def balance_loss(self) -> Tensor | None:
        """Load-balancing loss of the last training step, for towers with sparse routing."""
        return self.tower.balance_loss if isinstance(self.tower, MMoE) else None

    def fold(self) -> None:
        """Replace what does not depend on the input by constants; not to be trained afterwards."""
        if isinstance(self.bottom, DtrnBottom):
            self.bottom.fold()


def _build_bottom(
    layout: Layout, config: ModelConfig, groups: tuple[str, ...]
) -> ConcatBottom | DtrnBottom:
    if isinstance(config.bottom, ConcatBottomConfig):
        return ConcatBottom(layout, config.bottom, token_dim(config.tower))
    pseudo = pseudo_readers(config.tower, groups)
    return DtrnBottom(layout, config.bottom, (*layout.output_names, *pseudo))


def _build_hazard(in_dim: int, label: SurvivalLabel, config: HazardConfig) -> HazardHead:
    if isinstance(config, TwoGridConfig):
        grids = (config.short, config.long)
        return TwoGridHead(in_dim, label.num_causes, grids, config.hidden)
    return HazardHead(in_dim, label.num_causes, len(config.edges) - 1, config.hidden)


class MultiTaskModel(nn.Module):
    """Batch -> logits of all tasks.

    `embeddings` and `dense_part` are trained by different optimisers and exported apart;
    `embeddings` serves as built and trains after `embeddings.shard.shard`.
    """

    def __init__(self, layout: Layout, config: ModelConfig, embeddings: Embeddings) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.dense_part = DensePart(layout, config)
        self.parents = chained(config.chain, layout.parents)
        """Parents along which predictions are multiplied, -1 without."""

    def outputs(
        self, batch: Batch, probe: Probe | None = None, with_hazard: bool = True
    ) -> Outputs:
        """Outputs of all heads, that of hazards where it is wanted."""
        outputs: Outputs = self.dense_part(self.embeddings(batch), probe, with_hazard)
        return outputs

    def forward(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Logits float32[B, T]; in a product that of a label is conditional on its parent."""
        return self.outputs(batch, probe, with_hazard=False).logits

    def predict_log_probs(self, batch: Batch, probe: Probe | None = None) -> tuple[Tensor, Tensor]:
        """Give log p and log(1 - p) of every label over the entire space, float32[B, T] each."""
        return chain_log_probs(self(batch, probe), self.parents)


def build_model(
    layout: Layout, config: ModelConfig, seed: int, table_device: torch.device | None = None
) -> MultiTaskModel:
    """Make a model whose initial weights depend on layout, config and seed alone.

    Args:
        layout: inputs and tasks.
        config: bottom, tower, heads, chain.
        seed: of tables and dense layers; the global random state is left as it was.
        table_device: of the tables; `meta` when they are sharded or loaded next.
    """
    with torch.random.fork_rng(devices=[]):
        embeddings = Embeddings(layout, seed, table_device)
        torch.manual_seed(seed)
        return MultiTaskModel(layout, config, embeddings)
