"""Experts of several owners, whose inputs pass low-rank feature gates."""

import torch
from torch import Tensor, nn

from recsys_mtl.models.layers import Experts


class FeatureGate(nn.Module):
    """y = x * 2 sigmoid(x B A): every feature is scaled by a factor in (0, 2).

    A is zero at first, so y equals x exactly: batch statistics, and a start from the weights of
    an ungated model, stay valid. B is normal with variance 1 / D.

    Shapes: float32[B, D] -> float32[B, D].

    Cost: parameters 2 D r, with the same number of MACs per row.

    Source: HoME's feature gate with one pair of matrices; mixing several is left out (our
    reading).

    Args:
        dim: width of x (D).
        rank: r.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(dim, rank) / dim**0.5)
        self.up = nn.Parameter(torch.zeros(rank, dim))

    def forward(self, x: Tensor) -> Tensor:
        """float32[B, D]."""
        return x * (2 * torch.sigmoid(x @ self.down @ self.up))


class OwnedExperts(nn.Module):
    """z_o = Experts_o(FeatureGate_o(x_o)) for every owner o, each with experts of its own.

    All experts are one layer, with batch norm and SiLU.

    Shapes: {owner: float32[B, D_in]} -> float32[B, sum_o K_o, D].

    Cost: parameters sum_o K_o (D_in + 3) D + [feature gates] 2 D_in r for each owner.

    Args:
        count: owner to its number of experts (K_o).
        in_dim: width of the inputs (D_in).
        dim: width of an expert's output (D).
        rank: of the feature gates (r); without gates when None.
    """

    def __init__(self, count: dict[str, int], in_dim: int, dim: int, rank: int | None) -> None:
        super().__init__()
        self.count = count
        self.feature_gates = nn.ModuleList(
            [] if rank is None else [FeatureGate(in_dim, rank) for _ in count]
        )
        self.experts = Experts(sum(count.values()), in_dim, (dim,), style="bn_silu")

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Outputs of all experts, owner after owner, float32[B, sum_o K_o, D]."""
        if self.feature_gates:
            gates = zip(self.count, self.feature_gates, strict=True)
            x = {owner: gate(x[owner]) for owner, gate in gates}
        z_BKD: Tensor = self.experts([x[o] for o, k in self.count.items() for _ in range(k)])
        return z_BKD
