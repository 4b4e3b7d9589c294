"""Layers that bottoms, towers and heads share."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


def mlp(in_dim: int, hidden: Sequence[int], out_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU, and dropout, between them; none after the last.

    Parameters: sum of (i + 1) * o over consecutive widths.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(in_dim, width), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        in_dim = width
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))


class Experts(nn.Module):
    """K multi-layer experts on one input, evaluated together: z_k = relu(E_k(x)).

    The first layers are one Linear(in_dim, K * width), which equals K separate ones, their
    initial distribution included; deeper layers are stacked weights [K, in, out]. ReLU follows
    every layer, the last as well.

    Shapes: float32[B, D_in] -> float32[B, K, D].

    Cost: parameters K * mlp(D_in; hidden; D), with the same number of MACs less biases.

    Args:
        num: experts (K).
        in_dim: width of the input (D_in).
        widths: of each expert's layers; the last is D.
    """

    def __init__(self, num: int, in_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.num = num
        self.first = nn.Linear(in_dim, num * widths[0])
        self.deeper = nn.ModuleList(StackedLinear(num, i, o) for i, o in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all experts, float32[B, K, D]."""
        z_BKD = relu(self.first(x)).view(x.shape[0], self.num, -1)
        for layer in self.deeper:
            z_BKD = relu(layer(z_BKD))
        return z_BKD


class StackedLinear(nn.Module):
    """K linear layers side by side: y_k = x_k W_k + b_k.

    Shapes: float32[B, K, D_in] -> float32[B, K, D_out].
    """

    def __init__(self, num: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        # Slice by slice: an initialiser would take the fan-in of a 3-D weight from K.
        layers = [nn.Linear(in_dim, out_dim) for _ in range(num)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """float32[B, K, D_out]."""
        y_KBD = torch.baddbmm(self.bias[:, None], x.transpose(0, 1), self.weight)
        return y_KBD.transpose(0, 1)
