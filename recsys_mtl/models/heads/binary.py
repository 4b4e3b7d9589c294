"""Binary head: one logit per row."""

from typing import cast

import torch
from torch import Tensor, nn

from recsys_mtl.models.layers import mlp
from recsys_mtl.spec.model_config import HeadConfig


class BinaryHead(nn.Module):
    """s = MLP(f), a logit; the chain or a sigmoid makes it a probability.

    Shapes: float32[B, D] -> float32[B].

    Cost: parameters mlp(D; hidden; 1).
    """

    def __init__(self, in_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.body = mlp(in_dim, config.hidden, 1, config.dropout)

    def forward(self, f: Tensor) -> Tensor:
        """Logits float32[B]."""
        logits: Tensor = self.body(f).squeeze(1)
        return logits

    def start_at(self, logit: float) -> None:
        """Set the last bias, the logit of a row about which nothing is known."""
        with torch.no_grad():
            cast(nn.Linear, self.body[-1]).bias.fill_(logit)
