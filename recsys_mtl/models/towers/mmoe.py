"""Multi-gate mixture of experts (Ma et al., KDD 2018)."""

import torch
from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.models.layers import Experts
from recsys_mtl.models.towers.tower import evaluate_once
from recsys_mtl.spec.model_config import MMoEConfig


class MMoE(nn.Module):
    """K experts for all tasks, mixed by one softmax gate per task.

        z_k = relu(E_k(x_t))
        w_t = softmax(W_t norm(x_t) + b_t)
        f_t = sum_k w_tk z_k

    Experts are evaluated once when all x_t are the same tensor, else once per distinct x_t.
    The gates share one layer norm of their input (our choice; `gate_norm: none` is the paper's).

    Shapes: x_t float32[B, D_in] -> {task: float32[B, D]}.

    Cost: parameters K * mlp(D_in; hidden; D) + T (D_in + 1) K + [layernorm] 2 D_in; MACs per row
    about K D_in D + T D_in K + T K D without inner layers.

    Args:
        in_dim: width of x_t (D_in).
        tasks: names, in the order of the labels.
        config: experts, gate norm.
    """

    def __init__(self, in_dim: int, tasks: tuple[str, ...], config: MMoEConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = config.expert_dim
        self.experts = Experts(
            config.num_experts, in_dim, (*config.expert_hidden, config.expert_dim)
        )
        self.gate_norm = nn.LayerNorm(in_dim) if config.gate_norm == "layernorm" else nn.Identity()
        self.gates = nn.Linear(in_dim, len(tasks) * config.num_experts)

    def forward(self, bottom: BottomOutput) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]."""
        mixed = evaluate_once(self._mix, bottom.task, self.tasks)
        return {task: mixed[task][i] for i, task in enumerate(self.tasks)}

    def _mix(self, x: Tensor) -> tuple[Tensor, ...]:
        """f_t for every task, as if x were its input: float32[B, D] each."""
        z_BKD = self.experts(x)
        gate_BTK = self.gates(self.gate_norm(x)).view(len(x), len(self.tasks), -1)
        return torch.bmm(torch.softmax(gate_BTK, dim=2), z_BKD).unbind(1)
