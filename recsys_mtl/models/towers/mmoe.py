"""Multi-gate mixture of experts (Ma et al., KDD 2018), dense or sparsely routed."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, mix, names_of
from recsys_mtl.models.layers import Experts, linear_blocks
from recsys_mtl.spec.model_config import MMoEConfig

NOISE_FLOOR = 1e-2
"""Least standard deviation of routing noise: the load divides by it."""


class MMoE(nn.Module):
    """K experts for all tasks, mixed by one gate per task.

        z_k = E_k(x_t)
        g_t = W_t norm(x_t) + b_t
        w_t = softmax(g_t)
        f_t = sum_k w_tk z_k

    Experts and norm see all distinct x_t in one pass, so that a batch norm inside has one set of
    statistics; a plain bottom has one x_t. The gates share one layer norm of their input (our
    choice; `gate_norm: none` is the paper's).

    With `routing`, w_t is a noisy top-k gate (Shazeer et al., ICLR 2017) for each task:

        h_t = g_t + N(0, 1) softplus(V_t norm(x_t) + c_t)    in training, else g_t
        w_t = softmax over the top k of h_t, exactly 0 elsewhere
        balance_loss = balance * sum_t [cv^2(sum_b w_t) + cv^2(load_t)]

    with cv^2 over experts, and load_tk the expected number of rows that choose expert k were
    their noise drawn again. V and c start at 0; the paper has no biases, and starts W at 0 too
    (our reading keeps the usual initial W and b). Experts are evaluated for every row all the
    same: routing saves work where `restrict` drops experts.

    Shapes: x_t float32[B, D_in] -> {task: float32[B, D]}.

    Cost: parameters K * (mlp(D_in; hidden; D) + [bn_silu] 2 D) + (1 + [routing]) T (D_in + 1) K
    + [layernorm] 2 D_in; MACs per row K D_in D + (1 + [noise]) T D_in K + T K D without
    inner layers.

    Args:
        in_dim: width of x_t (D_in).
        tasks: names, in the order of the labels.
        config: experts, gate norm, routing.

    Raises:
        ValueError: routing keeps all experts.
    """

    def __init__(self, in_dim: int, tasks: tuple[str, ...], config: MMoEConfig) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.tasks = tasks
        self.config = config
        self.out_dim = config.expert_dim
        num, routing = config.num_experts, config.routing
        if routing is not None and routing.top_k >= num:
            raise ValueError(
                f"routing.top_k is {routing.top_k} but there are {num} experts; "
                "lower top_k, or leave routing out for dense gates"
            )
        widths = (*config.expert_hidden, config.expert_dim)
        self.experts = Experts(num, in_dim, widths, config.expert_style)
        self.gate_norm = nn.LayerNorm(in_dim) if config.gate_norm == "layernorm" else nn.Identity()
        self.gates = nn.Linear(in_dim, len(tasks) * num)
        self.noise = None
        if routing is not None:
            self.noise = nn.Linear(in_dim, len(tasks) * num)
            nn.init.zeros_(self.noise.weight)
            nn.init.zeros_(self.noise.bias)
        self.balance_loss: Tensor | None = None
        """Of the latest forward pass, when it was a training pass of routed gates."""

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]."""
        inputs = {id(bottom.task[task]): bottom.task[task] for task in self.tasks}
        x = torch.cat(list(inputs.values())) if len(inputs) > 1 else next(iter(inputs.values()))
        z = dict(zip(inputs, self.experts(x).tensor_split(len(inputs)), strict=True))
        normed = dict(zip(inputs, self.gate_norm(x).tensor_split(len(inputs)), strict=True))
        readers = [id(bottom.task[task]) for task in self.tasks]
        w_BTK = self._weights([normed[reader] for reader in readers])
        if probe is None and len(inputs) == 1:
            mixed = torch.bmm(w_BTK, z[readers[0]])
            return dict(zip(self.tasks, mixed.unbind(1), strict=True))
        names = names_of("shared", self.config.num_experts)
        return {
            task: mix(Mixture("1", task, names, w_BTK[:, i], z[readers[i]]), probe)
            for i, task in enumerate(self.tasks)
        }

    def restrict(self, tasks: tuple[str, ...], experts: Sequence[int]) -> "MMoE":
        """Copy the tower for some tasks, with only the named experts (M3ViT, Liang et al. 2022).

        Routed gates give these tasks the same outputs when no row chooses a dropped expert
        (`used_experts`); other weights are renormalised over the experts that stay.
        """
        routing = self.config.routing
        if routing is not None and routing.top_k >= len(experts):
            routing = None
        change = {"num_experts": len(experts), "routing": routing}
        copy = MMoE(self.in_dim, tasks, self.config.model_copy(update=change))
        copy.to(self.gates.weight)
        keep_t, keep_k = [self.tasks.index(task) for task in tasks], list(experts)
        state = self.state_dict()
        for name in copy.state_dict():
            value = state[name]
            if name.startswith("experts."):
                rows = value.view(self.config.num_experts, -1, *value.shape[1:])[keep_k]
            elif name.startswith(("gates.", "noise.")):
                rows = value.view(len(self.tasks), -1, *value.shape[1:])[keep_t][:, keep_k]
            else:
                continue
            state[name] = rows.flatten(0, 1)
        copy.load_state_dict({name: state[name] for name in copy.state_dict()})
        return copy.train(self.training)

    def _weights(self, x: Sequence[Tensor]) -> Tensor:
        """w_BTK for the normed input of each task's gate."""
        clean_BTK = linear_blocks(self.gates, x)
        routing = self.config.routing
        self.balance_loss = None
        if routing is None or self.noise is None:
            return torch.softmax(clean_BTK, dim=2)
        clean_BTK = clean_BTK.float()
        if not self.training:
            return _top_k_softmax(clean_BTK, routing.top_k)
        scale_BTK = softplus(linear_blocks(self.noise, x).float()).clamp(min=NOISE_FLOOR)
        noisy_BTK = clean_BTK + scale_BTK * torch.randn_like(clean_BTK)
        w_BTK = _top_k_softmax(noisy_BTK, routing.top_k)
        load_TK = expected_load(clean_BTK, noisy_BTK, scale_BTK, routing.top_k)
        self.balance_loss = routing.balance * (_cv_squared(w_BTK.sum(0)) + _cv_squared(load_TK))
        return w_BTK


def used_experts(weights: Iterable[Tensor]) -> tuple[int, ...]:
    """Experts that any row of any gate gives weight to.

    Args:
        weights: float32[B, K] of gates on one set of experts.
    """
    used = torch.stack([(w_BK != 0).any(0) for w_BK in weights]).any(0)
    return tuple(used.nonzero()[:, 0].tolist())


def expected_load(clean: Tensor, noisy: Tensor, scale: Tensor, top_k: int) -> Tensor:
    """Smooth number of rows per expert, float32[T, K] (Shazeer et al. 2017, appendix A).

        load_k = sum_b Phi((clean_bk - limit_bk) / scale_bk)

    with limit_bk the top_k-th greatest of the other experts' noisy logits: what expert k must
    exceed.

    Args:
        clean: logits, float32[B, T, K].
        noisy: the same with noise.
        scale: standard deviation of the noise.
        top_k: experts chosen, below K.
    """
    top = noisy.topk(top_k + 1, dim=2).values
    last_in, first_out = top[..., -2:-1], top[..., -1:]
    limit = torch.where(noisy > first_out, first_out, last_in)
    chance: Tensor = torch.special.ndtr((clean - limit) / scale)
    return chance.sum(0)


def _top_k_softmax(logits: Tensor, top_k: int) -> Tensor:
    top, chosen = logits.topk(top_k, dim=2)
    return torch.zeros_like(logits).scatter(2, chosen, torch.softmax(top, dim=2))


def _cv_squared(amount_TK: Tensor) -> Tensor:
    """Squared coefficient of variation over experts, summed over tasks; 0 for an empty batch."""
    mean = amount_TK.mean(1)
    return (amount_TK.var(1, correction=0) / mean.square().clamp(min=1e-12)).sum()
