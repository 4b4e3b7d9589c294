"""Shared bottom (Caruana, 1997): one MLP for all tasks."""

from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput, Probe
from recsys_mtl.models.layers import mlp
from recsys_mtl.models.towers.tower import evaluate_once
from recsys_mtl.spec.model_config import SharedBottomConfig


class SharedBottom(nn.Module):
    """f_t = relu(MLP(x_t)), with one MLP.

    Shapes: x_t float32[B, D_in] -> {task: float32[B, D]}.

    Cost: parameters mlp(D_in; hidden; D); evaluated once when all x_t are the same tensor.

    Args:
        in_dim: width of x_t (D_in).
        tasks: names, in the order of the labels.
        config: widths.
    """

    def __init__(self, in_dim: int, tasks: tuple[str, ...], config: SharedBottomConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = config.dim
        self.body = nn.Sequential(mlp(in_dim, config.hidden, config.dim), nn.ReLU())

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]; there is no mixture to probe."""
        return evaluate_once(self.body, bottom.task, self.tasks)
