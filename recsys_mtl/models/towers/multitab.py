"""Masked attention between task tokens and feature tokens (MultiTab-style)."""

import torch
from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, names_of
from recsys_mtl.spec.model_config import MultiTabConfig


class MultiTab(nn.Module):
    """MultiTab-style masked inter-feature attention: one pre-norm transformer block.

        x_t = task token + Drop(MHA(LN(task token); LN([task token; tokens])))
        f_t = x_t + W_2 Drop(gelu(W_1 LN(x_t)))

    A task token sees itself and all fields, no other task. Heads read task tokens alone and there
    is one block, so the fields' own rows are never computed. The inter-sample half of the paper's
    network is deliberately absent: it would let rows of a batch change each other's scores.
    Weights start from N(0, 0.01^2) and biases from 0, attention's inputs from Xavier's; where
    biases start is our reading.

    A probe is shown what each task attends to, itself as `<task>/0` and the fields as `field/f`,
    averaged over heads; the mixture that it returns is not used.

    Shapes: tokens float32[B, F, e] -> {task: float32[B, e]}.

    Cost: parameters T e + 4 e^2 + 4 e + 2 e f + f + e + 4 e; MACs per row, with n = T + F,
    2 n e^2 + 2 T e^2 + 2 T n e + 2 T e f.

    Source: MultiTab-Net (arXiv 2511.09970) and its public code, whose task tokens are a weight
    plus a bias; one vector gives the same functions.

    Args:
        num_tokens: F.
        tasks: names, in the order of the labels.
        config: sizes, dropout; `dim` is the width of the tokens (e).
    """

    blocked: Tensor
    """bool[T, T + F], True where a task does not look."""

    def __init__(self, num_tokens: int, tasks: tuple[str, ...], config: MultiTabConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = config.dim
        self.task_tokens = nn.Parameter(torch.empty(len(tasks), config.dim))
        self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attention = nn.MultiheadAttention(config.dim, config.heads, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        inner, outer = nn.Linear(config.dim, config.ff), nn.Linear(config.ff, config.dim)
        self.mlp = nn.Sequential(inner, nn.GELU(), nn.Dropout(config.dropout), outer)
        for weight in (
            self.task_tokens,
            self.attention.out_proj.weight,
            inner.weight,
            outer.weight,
        ):
            nn.init.normal_(weight, std=0.01)
        nn.init.zeros_(inner.bias)
        nn.init.zeros_(outer.bias)
        own, fields = torch.eye(len(tasks), dtype=torch.bool), torch.ones(len(tasks), num_tokens)
        blocked = ~torch.cat([own, fields.bool()], dim=1)
        self.register_buffer("blocked", blocked, persistent=False)

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, e]."""
        assert bottom.tokens is not None, "the bottom was built without token_dim"
        tasks_BTE = self.task_tokens.expand(len(bottom.tokens), -1, -1)
        z_BNE = self.norm1(torch.cat([tasks_BTE, bottom.tokens], dim=1))
        read_BTE, weights_BTN = self.attention(
            z_BNE[:, : len(self.tasks)],
            z_BNE,
            z_BNE,
            attn_mask=self.blocked,
            need_weights=probe is not None,
        )
        x_BTE = tasks_BTE + self.dropout(read_BTE)
        f_BTE = x_BTE + self.mlp(self.norm2(x_BTE))
        if probe is not None:
            self._show(probe, weights_BTN, z_BNE)
        return dict(zip(self.tasks, f_BTE.unbind(1), strict=True))

    def _show(self, probe: Probe, weights_BTN: Tensor, z_BNE: Tensor) -> None:
        fields = names_of("field", z_BNE.shape[1] - len(self.tasks))
        for task, seen, weights in zip(
            self.tasks, ~self.blocked, weights_BTN.unbind(1), strict=True
        ):
            names = (f"{task}/0", *fields)
            probe(Mixture("1", task, names, weights[:, seen], z_BNE[:, seen]))
