"""The whole model: tables, bottom, tower, heads, chain."""

import torch
from torch import Tensor, nn

from recsys_mtl.batches.batch import Batch
from recsys_mtl.embeddings.embedded import Embedded
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.models.bottoms.concat import ConcatBottom
from recsys_mtl.models.bottoms.dtrn import DtrnBottom
from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.heads.chain import chain_log_probs, chained
from recsys_mtl.models.interface import Probe
from recsys_mtl.models.towers import TowerInput, build_tower, pseudo_readers, token_dim
from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.spec.layout import Layout
from recsys_mtl.spec.model_config import ConcatBottomConfig, ModelConfig


class DensePart(nn.Module):
    """Everything above the tables, trained by an ordinary optimiser."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        tasks = layout.task_names
        # By name: a bundle's JSON does not keep the order of the file.
        groups = dict(sorted(config.task_groups.items()))
        self.bottom = _build_bottom(layout, config, tuple(groups))
        given = TowerInput(
            self.bottom.out_dim,
            self.bottom.num_tokens if isinstance(self.bottom, ConcatBottom) else 0,
            tasks,
            layout.parents,
            groups,
        )
        self.tower = build_tower(config.tower, given)
        self.tasks = tasks
        # Lists: a dictionary of modules refuses names such as `apply`, which a task may bear.
        self.heads = nn.ModuleList(BinaryHead(self.tower.out_dim, config.head) for _ in tasks)

    def forward(self, embedded: Embedded, probe: Probe | None = None) -> Tensor:
        """Logits float32[B, T], in the order of the layout's tasks; a probe sees all gates."""
        f = self.tower(self.bottom(embedded), probe)
        heads = zip(self.tasks, self.heads, strict=True)
        return torch.stack([head(f[task]) for task, head in heads], dim=1)

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
    return DtrnBottom(layout, config.bottom, (*layout.task_names, *pseudo))


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

    def forward(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Logits float32[B, T]; that of a chained label is conditional on its parent."""
        logits: Tensor = self.dense_part(self.embeddings(batch), probe)
        return logits

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
