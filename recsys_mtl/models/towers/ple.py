"""Progressive layered extraction (Tang et al., RecSys 2020); one level is CGC."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, mix, names_of
from recsys_mtl.models.layers import Experts, linear_blocks
from recsys_mtl.spec.model_config import PLEConfig


class PLE(nn.Module):
    """Levels of experts for one task each and of experts for all tasks.

    x_t^0 = x_t and x_s^0 = x_shared; f_t = x_t^L; between them `Level`. The gates of the first
    level share one layer norm of their inputs, as in `MMoE` (our choice). Inputs that are the
    same tensor are read once: a plain bottom's by all experts of the first level in one product.

    Shapes: x_t, x_shared float32[B, D_in] -> {task: float32[B, D]}.

    Cost: parameters 2 D_in + the sum over levels, the first D_in wide, the others D; MACs
    likewise.

    Args:
        in_dim: width of x_t and x_shared (D_in).
        tasks: names, in the order of the labels.
        config: levels, experts.

    Raises:
        ValueError: there are no experts.
    """

    def __init__(self, in_dim: int, tasks: tuple[str, ...], config: PLEConfig) -> None:
        super().__init__()
        if config.num_shared + config.num_specific == 0:
            raise ValueError(
                "num_shared and num_specific are both 0: no task would have an expert; "
                "raise one of them to at least 1"
            )
        self.tasks = tasks
        self.out_dim = config.expert_dim
        self.gate_norm = nn.LayerNorm(in_dim)
        self.levels = nn.ModuleList(
            Level(number, in_dim if number == 1 else config.expert_dim, tasks, config)
            for number in range(1, config.levels + 1)
        )

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]."""
        x = [*(bottom.task[task] for task in self.tasks), bottom.shared]
        normed = {key: self.gate_norm(x_r) for key, x_r in {id(x_r): x_r for x_r in x}.items()}
        gate_x = [normed[id(x_r)] for x_r in x]
        for level in self.levels:
            x = gate_x = level(x, gate_x, probe)
        return dict(zip(self.tasks, x, strict=True))


class Level(nn.Module):
    """One level l of L: m_t experts for each task, m_s shared ones, and a gate per reader.

        Z_t   = [E_t(x_t^(l-1)); E_s(x_s^(l-1))]
        x_t^l = mix(softmax(W_t x_t^(l-1) + b_t), Z_t)
        x_s^l = mix(softmax(W_s x_s^(l-1) + b_s), [all tasks' experts; shared ones]),  l < L only

    Shapes: T + 1 times float32[B, D_in] (tasks, shared) -> T + 1 times float32[B, D], without the
    shared one from the last level.

    Cost: with K = T m_t + m_s, parameters K * (mlp(D_in; hidden; D) + [bn_silu] 2 D)
    + T (D_in + 1) (m_t + m_s) + [l < L] (D_in + 1) K; MACs per row without inner layers
    K D_in D + T D_in (m_t + m_s) + [l < L] D_in K + (T + [l < L]) K D.

    Args:
        number: l, from 1.
        in_dim: width of the inputs (D_in).
        tasks: names, in the order of the labels.
        config: levels (L), experts.
    """

    read: Tensor
    """int64[T, m_t + m_s], positions of the experts that each task's gate mixes."""

    def __init__(self, number: int, in_dim: int, tasks: tuple[str, ...], config: PLEConfig) -> None:
        super().__init__()
        self.name = str(number)
        self.tasks = tasks
        self.num_specific, self.num_shared = config.num_specific, config.num_shared
        owned = chain.from_iterable(names_of(task, config.num_specific) for task in tasks)
        self.names = (*owned, *names_of("shared", config.num_shared))
        widths = (*config.expert_hidden, config.expert_dim)
        self.experts = Experts(len(self.names), in_dim, widths, config.expert_style)
        self.task_gates = nn.Linear(in_dim, len(tasks) * (config.num_specific + config.num_shared))
        is_last = number == config.levels
        self.shared_gate = None if is_last else nn.Linear(in_dim, len(self.names))
        positions = torch.arange(len(self.names))
        specific = positions[: len(tasks) * config.num_specific].view(len(tasks), -1)
        shared = positions[specific.numel() :].expand(len(tasks), -1)
        self.register_buffer("read", torch.cat([specific, shared], dim=1), persistent=False)

    def forward(
        self, x: Sequence[Tensor], gate_x: Sequence[Tensor], probe: Probe | None
    ) -> list[Tensor]:
        """x^l, float32[B, D] each.

        Args:
            x: what the experts of each task, and the shared ones, read.
            gate_x: what their gates read.
            probe: sees the mixtures.
        """
        num_tasks = len(self.tasks)
        owned = [x_t for x_t in x[:num_tasks] for _ in range(self.num_specific)]
        z_BKD = self.experts([*owned, *[x[-1]] * self.num_shared])
        w_BTK = torch.softmax(linear_blocks(self.task_gates, gate_x[:num_tasks]), dim=2)
        w_s = None if self.shared_gate is None else torch.softmax(self.shared_gate(gate_x[-1]), 1)
        if probe is None:
            return self._mix(w_BTK, w_s, z_BKD)
        mixtures = [
            Mixture(self.name, task, self._names(read), w_BTK[:, t], z_BKD[:, read])
            for t, (task, read) in enumerate(zip(self.tasks, self.read.tolist(), strict=True))
        ]
        if w_s is not None:
            mixtures.append(Mixture(self.name, "shared", self.names, w_s, z_BKD))
        return [mix(mixture, probe) for mixture in mixtures]

    def _names(self, read: list[int]) -> tuple[str, ...]:
        return tuple(self.names[k] for k in read)

    def _mix(self, w_BTK: Tensor, w_s: Tensor | None, z_BKD: Tensor) -> list[Tensor]:
        """All mixtures as one product, with weight 0 for experts that a task does not read.

        A PLE of two levels takes 1.5 x the time of an MMoE with 8 experts so (CPU, forward and
        backward, B = 2048, D_in = 256, T = 4), and 1.7 x with products of what tasks do read.
        """
        rows, num, _ = z_BKD.shape
        zeros = w_BTK.new_zeros(rows, len(self.tasks), num)
        w_BRK = zeros.scatter(2, self.read.expand(rows, -1, -1), w_BTK)
        if w_s is not None:
            w_BRK = torch.cat([w_BRK, w_s[:, None]], dim=1)
        return list(torch.bmm(w_BRK, z_BKD).unbind(1))
