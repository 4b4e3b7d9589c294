"""Concatenation bottom: one input for all tasks."""

import torch
from torch import Tensor, nn

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence
from recsys_mtl.models.attention import TargetAttention
from recsys_mtl.models.bottoms.tokens import Tokens
from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.spec.layout import Layout, SequenceInput
from recsys_mtl.spec.model_config import ConcatBottomConfig


class ConcatBottom(nn.Module):
    """v = [pooled bags; read-outs of sequence fields; numbers].

    Read-outs of a field, in the order of `sequence_pooling`: the mean over its events, and
    target attention where the field names a target. A field without a target is always
    averaged. Numbers pass as they are: the spec's transforms scale them.

    Tokens are made of the parts of v, one each, after dropout: a unit that is dropped is
    missing from both.

    Shapes: `Embedded` -> the same float32[B, D] for every task, and `tokens` float32[B, F, E]
    with F bags, read-outs and numbers.

    Args:
        layout: order of bags and sequences.
        config: read-outs, dropout.
        token_dim: width of the tokens (E); None makes none.
    """

    def __init__(
        self, layout: Layout, config: ConcatBottomConfig, token_dim: int | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        width = {bag.name: layout.tables[bag.table].dim for bag in layout.bags}
        widths = list(width.values())
        self._means: set[str] = set()
        self.attention = nn.ModuleDict()
        for sequence in layout.sequences:
            for field, table in sequence.fields.items():
                dim = layout.tables[table].dim
                attends = "attention" in config.sequence_pooling and field in sequence.targets
                if attends:
                    self.attention[field] = TargetAttention(dim, config.attention_hidden)
                if "mean" in config.sequence_pooling or not attends:
                    self._means.add(field)
                widths += [dim] * (attends + (field in self._means))
        self.out_dim = sum(widths) + len(layout.dense)
        self.num_tokens = len(widths) + len(layout.dense)
        """F"""
        self._sizes = [*widths, len(layout.dense)]
        self.tokens = None if token_dim is None else Tokens(widths, len(layout.dense), token_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, embedded: Embedded) -> BottomOutput:
        """One tensor for all tasks."""
        parts = list(embedded.bags.values())
        for sequence in self.layout.sequences:
            parts += self._read(sequence, embedded.sequences[sequence.name], embedded.bags)
        v = self.dropout(torch.cat([*parts, embedded.dense], dim=1))
        tokens = None
        if self.tokens is not None:
            *vectors, numbers = v.split(self._sizes, dim=1)
            tokens = self.tokens(vectors, numbers)
        return BottomOutput({task: v for task in self.layout.output_names}, v, tokens=tokens)

    def _read(
        self, sequence: SequenceInput, events: EmbeddedSequence, bags: dict[str, Tensor]
    ) -> list[Tensor]:
        """Read-outs float32[B, E] of all fields of one sequence."""
        mean = events.mask / events.mask.sum(1, keepdim=True).clamp(min=1)
        out: list[Tensor] = []
        for field, e_BSE in events.fields.items():
            weights = [mean] if field in self._means else []
            if field in self.attention:
                target = bags[sequence.targets[field]]
                weights.append(self.attention[field](target, e_BSE, events.mask))
            # All read-outs in one product, so that the events are read once.
            out += torch.bmm(torch.stack(weights, dim=1), e_BSE).unbind(1)
        return out
