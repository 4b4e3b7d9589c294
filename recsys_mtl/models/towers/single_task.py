"""Single-task models side by side: what multi-task learning is measured against."""

from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput, Probe
from recsys_mtl.models.layers import Experts
from recsys_mtl.spec.model_config import SingleTaskConfig


class SingleTask(nn.Module):
    """f_t = relu(MLP_t(x_t)), with an MLP for every task; only the tables are shared.

    The MLPs are evaluated together, the first layers as one when all x_t are the same tensor.

    Shapes: x_t float32[B, D_in] -> {task: float32[B, D]}.

    Cost: parameters T * mlp(D_in; hidden; D), with the same number of MACs less biases.

    Args:
        in_dim: width of x_t (D_in).
        tasks: names, in the order of the labels.
        config: widths.
    """

    def __init__(self, in_dim: int, tasks: tuple[str, ...], config: SingleTaskConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = config.dim
        self.bodies = Experts(len(tasks), in_dim, (*config.hidden, config.dim))

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]; there is no mixture to probe."""
        f_BTD = self.bodies([bottom.task[task] for task in self.tasks])
        return dict(zip(self.tasks, f_BTD.unbind(1), strict=True))
