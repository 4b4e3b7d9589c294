"""The whole model: tables, bottom, tower, heads, chain."""

import torch
from torch import Tensor, nn

from recsys_mtl.batches.batch import Batch
from recsys_mtl.embeddings.embedded import Embedded
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.models.bottoms.concat import ConcatBottom
from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.heads.chain import chain_log_probs
from recsys_mtl.models.towers import build_tower
from recsys_mtl.spec.layout import Layout
from recsys_mtl.spec.model_config import ModelConfig


class DensePart(nn.Module):
    """Everything above the tables, trained by an ordinary optimiser."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        tasks = layout.task_names
        self.bottom = ConcatBottom(layout, config.bottom)
        self.tower = build_tower(config.tower, self.bottom.out_dim, tasks)
        self.heads = nn.ModuleDict(
            {task: BinaryHead(self.tower.out_dim, config.head) for task in tasks}
        )

    def forward(self, embedded: Embedded) -> Tensor:
        """Logits float32[B, T], in the order of the layout's tasks."""
        f = self.tower(self.bottom(embedded))
        return torch.stack([head(f[task]) for task, head in self.heads.items()], dim=1)


class MultiTaskModel(nn.Module):
    """Batch -> logits of all tasks.

    `embeddings` and `dense_part` are trained by different optimisers and exported apart;
    `embeddings` serves as built and trains after `embeddings.shard.shard`.
    """

    def __init__(self, layout: Layout, config: ModelConfig, embeddings: Embeddings) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.dense_part = DensePart(layout, config)
        product = config.chain == "product"
        self.parents = layout.parents if product else (-1,) * len(layout.tasks)
        """Parents of the chain; all -1 when labels are modelled independently."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits float32[B, T]; that of a chained label is conditional on its parent."""
        logits: Tensor = self.dense_part(self.embeddings(batch))
        return logits

    def predict_log_probs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Give log p and log(1 - p) of every label over the entire space, float32[B, T] each."""
        return chain_log_probs(self(batch), self.parents)


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
