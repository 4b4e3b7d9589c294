"""Field tokens: every input as a vector of one width."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys_mtl.embeddings.initial import MAX_SCALE
from recsys_mtl.models.layers import StackedLinear


class Tokens(nn.Module):
    """Tokens of vectors and numbers, in their order; the numbers come last.

        u_f = v_f              where v_f is E wide
        u_f = W_f v_f + b_f    elsewhere
        u_x = x w_x + b_x      of a number x

    Fields of equal width are projected by one product. Initial values are our reading: biases 0,
    since a bias of the usual size would drown an embedding; w uniform in +-0.05, as a table's.

    Shapes: parts float32[B, d_f] and numbers float32[B, Fd] -> float32[B, F, E].

    Cost: parameters sum (d_f + 1) E over fields with d_f != E, + 2 Fd E; MACs per row
    sum d_f E over those fields + Fd E.

    Args:
        widths: of the vectors (d_f).
        num_numbers: Fd.
        dim: width of a token (E).
    """

    def __init__(self, widths: Sequence[int], num_numbers: int, dim: int) -> None:
        super().__init__()
        self.num = len(widths) + num_numbers
        self.projections = nn.ModuleDict(
            {
                str(width): StackedLinear(count, width, dim)
                for width, count in sorted(Counter(widths).items())
                if width != dim
            }
        )
        self.number_weight = nn.Parameter(torch.empty(num_numbers, dim))
        self.number_bias = nn.Parameter(torch.zeros(num_numbers, dim))
        nn.init.uniform_(self.number_weight, -MAX_SCALE, MAX_SCALE)
        for layer in self.projections.children():
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, parts: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """float32[B, F, E]."""
        projected = {
            int(width): iter(
                layer(torch.stack([v for v in parts if v.shape[1] == int(width)], dim=1)).unbind(1)
            )
            for width, layer in self.projections.items()
        }
        vectors = [next(projected[v.shape[1]]) if v.shape[1] in projected else v for v in parts]
        of_numbers = torch.addcmul(self.number_bias, numbers[:, :, None], self.number_weight)
        return torch.cat([*(v[:, None] for v in vectors), of_numbers], dim=1)
