"""Adaptive information transfer along a funnel (AITM; Xi et al., KDD 2021)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from recsys_mtl.models.heads.chain import topological
from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, mix
from recsys_mtl.models.layers import StackedLinear
from recsys_mtl.spec.model_config import AitmConfig

_TRANSFER_STD = 0.01


class Aitm(nn.Module):
    """One MLP per task; each task adds what its parent in the funnel hands down.

        q_t = relu(MLP_t(x_t))
        z_t = q_t                                      without a parent
        p_t = relu(W_t z_u + b_t)                      with a parent u
        z_t = sum_v w_v H1 v,  v in {p_t, q_t},  w = softmax_v(<H2 v, H3 v> / sqrt(D))

    The score is each v's own query-key product. H1, H2, H3 have no bias, start from
    N(0, 0.01^2) and are one set for all transitions, as in the authors' code; weight decay stands
    for their L2 penalty. Gradients of a child reach its parents. Dropout follows every ReLU.
    The paper has a line of tasks; on a tree, every child has a transition of its own (our
    reading). Losses are those of a calibrated chain in the paper; any chain may follow.

    With that start a child's z_t has about sqrt(D) 0.01 of the scale of q_t, 6 % at D = 32.

    Shapes: x_t float32[B, D_in] -> {task: float32[B, D]}.

    Cost: with N transitions (tasks with a parent), parameters
    T mlp(D_in; hidden; D) + N (D^2 + D) + [N > 0] 3 D^2; MACs per row T mlp + N (7 D^2 + 4 D),
    less biases.

    Args:
        in_dim: width of x_t (D_in).
        tasks: names, in the order of the labels.
        parents: index of each task's parent, -1 without.
        config: widths, dropout.
    """

    def __init__(
        self, in_dim: int, tasks: tuple[str, ...], parents: tuple[int, ...], config: AitmConfig
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = dim = config.dim
        widths = (in_dim, *config.hidden, dim)
        self.own = nn.ModuleList(StackedLinear(len(tasks), i, o) for i, o in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        order = topological(parents)
        self._parents = {tasks[t]: tasks[parents[t]] for t in order if parents[t] >= 0}
        self.handed = nn.ModuleList(nn.Linear(dim, dim) for _ in self._parents)
        if self._parents:
            self.transfer = nn.Linear(dim, 3 * dim, bias=False)
            """H1, H2, H3 one below the other."""
            nn.init.normal_(self.transfer.weight, std=_TRANSFER_STD)

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to z_t, float32[B, D]."""
        z = self._own(bottom)
        for (task, parent), layer in zip(self._parents.items(), self.handed, strict=True):
            z[task] = self._receive(task, z[task], self.dropout(relu(layer(z[parent]))), probe)
        return z

    def _own(self, bottom: BottomOutput) -> dict[str, Tensor]:
        """Task name to q_t, float32[B, D]."""
        inputs = [bottom.task[task] for task in self.tasks]
        if all(x is inputs[0] for x in inputs):
            x_BTD = inputs[0][:, None].expand(-1, len(inputs), -1)
        else:
            x_BTD = torch.stack(inputs, dim=1)
        for layer in self.own:
            x_BTD = self.dropout(relu(layer(x_BTD)))
        return dict(zip(self.tasks, x_BTD.unbind(1), strict=True))

    def _receive(self, task: str, q: Tensor, p: Tensor, probe: Probe | None) -> Tensor:
        """z_t of a task with a parent, float32[B, D]."""
        value, query, key = self.transfer(torch.stack([p, q], dim=1)).chunk(3, dim=2)
        weights = torch.softmax((query * key).sum(2) / self.out_dim**0.5, dim=1)
        # What a parent hands down is named after the transition: each has a W of its own.
        handed = f"{self._parents[task]}/{1 + self.tasks.index(task)}"
        return mix(Mixture("transfer", task, (handed, f"{task}/0"), weights, value), probe)
