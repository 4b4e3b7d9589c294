"""Set attention over field tokens and a pattern selector per task (APEM-style)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, softmax

from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, names_of
from recsys_mtl.models.layers import StackedLinear
from recsys_mtl.spec.model_config import ApemConfig


class Apem(nn.Module):
    """APEM-style (reconstructed from the abstract of arXiv 2301.02494v3).

    G groups of L set-attention blocks relate the fields, squeeze-and-excitation weighs them, and
    each task selects from all N = G F tokens with S indicator vectors of its own:

        E       = tokens + field vectors (0 at first)                           [B, F, d]
        X_0     = E;  X_l = MAB(X_{l-1}, MAB(I, X_{l-1})),  I [m, d]            per group
        z_f     = X_L[f] . s
        a       = 2 sigmoid(W_2 relu(W_1 z + b_1) + b_2),  W_2 = b_2 = 0 at first
        P_g     = E + a * X_L                                                   [B, N, d] in all
        c       = tanh(W_c vec(E) + b_c), 0 at first                            [B, d]
        f_t     = vec(MAB(U_t * (1 + c), P)),  U_t [S, d] from N(0, 0.25)       [B, S d]

        MAB(Q, K):  O = LN(q + softmax(q k^T / sqrt(d / h)) v),  q, k, v = Q W_q, K W_k, K W_v
                    LN(O + relu(O W_o))

    The abstract names set attention, squeeze-and-excitation and adaptive task indicators; every
    equation here is our reading of it. The squeeze is learned since a mean over a layer-normed
    vector is 0, and U starts wide since narrow indicators let all tasks attend alike.

    A probe is shown what each task selects, `field/n` with n = g F + f, averaged over heads and
    indicators; the mixture that it returns is not used.

    Shapes: tokens float32[B, F, d] -> {task: float32[B, S d]}.

    Cost: parameters, with MAB = 4 (d^2 + d) + 4d and k = max(1, F // r),
    F d + G [L (m d + 2 MAB) + 2 F k + k + F + d] + T S d + F d^2 + d + MAB.
    MACs per row G [L ((4F + 3m) d^2 + 4 h m F d) + 2 F k + F d] + F d^2 + 2 (N + T S) d^2
    + 2 h T S N d: attention costs h times its least, see `attend`.

    Args:
        num_tokens: F.
        tasks: names, in the order of the labels.
        config: sizes; `dim` is the width of the tokens (d).
    """

    def __init__(self, num_tokens: int, tasks: tuple[str, ...], config: ApemConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.out_dim = config.indicators * config.dim
        self.groups = config.groups
        self.field_vectors = nn.Parameter(torch.zeros(num_tokens, config.dim))
        self.blocks = nn.ModuleList(InducedSetAttention(config) for _ in range(config.blocks))
        self.excitation = Excitation(num_tokens, config)
        indicators = torch.randn(len(tasks), config.indicators, config.dim)
        self.indicators = nn.Parameter(0.5 * indicators)
        self.adapter = nn.Linear(num_tokens * config.dim, config.dim)
        nn.init.zeros_(self.adapter.weight)
        nn.init.zeros_(self.adapter.bias)
        self.selector = SetAttention(1, config.dim, config.heads)

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, S d]."""
        assert bottom.tokens is not None, "the bottom was built without token_dim"
        e_BFD = bottom.tokens + self.field_vectors
        x_GBFD = e_BFD.expand(self.groups, -1, -1, -1)
        for block in self.blocks:
            x_GBFD = block(x_GBFD)
        p_GBFD = torch.addcmul(e_BFD, self.excitation(x_GBFD), x_GBFD)
        p_BND = p_GBFD.transpose(0, 1).flatten(1, 2)
        adapted = 1 + torch.tanh(self.adapter(e_BFD.flatten(1)))
        q_BQD = self.indicators.flatten(0, 1) * adapted[:, None]
        f, weights_BhQN = self.selector(q_BQD[None], p_BND[None])
        if probe is not None:
            self._show(probe, weights_BhQN, p_BND)
        # [1, B, T S, d] -> T times [B, S d]
        f_BTD = f[0].view(len(e_BFD), len(self.tasks), self.out_dim)
        return dict(zip(self.tasks, f_BTD.unbind(1), strict=True))

    def _show(self, probe: Probe, weights_BhQN: Tensor, p_BND: Tensor) -> None:
        per_task = torch.unflatten(weights_BhQN, 2, (len(self.tasks), -1)).mean((1, 3))
        names = names_of("field", p_BND.shape[1])
        for task, weights in zip(self.tasks, per_task.unbind(1), strict=True):
            probe(Mixture("selector", task, names, weights, p_BND))


class Excitation(nn.Module):
    """Squeeze-and-excitation over fields, per group: a of `Apem`; exactly 1 at first.

    Shapes: float32[G, B, F, d] -> float32[G, B, F, 1].
    """

    def __init__(self, num_tokens: int, config: ApemConfig) -> None:
        super().__init__()
        inner = max(1, num_tokens // config.squeeze)
        squeeze = torch.randn(config.groups, config.dim, 1)
        self.squeeze = nn.Parameter(squeeze * config.dim**-0.5)
        self.inner = StackedLinear(config.groups, num_tokens, inner)
        self.outer = StackedLinear(config.groups, inner, num_tokens)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Weights of fields, between 0 and 2: a hard zero could silence a field for good."""
        z_GBF = torch.bmm(x.flatten(1, 2), self.squeeze).view(x.shape[:3])
        a_BGF = 2 * torch.sigmoid(self.outer(relu(self.inner(z_GBF.transpose(0, 1)))))
        return a_BGF.transpose(0, 1)[..., None]


class InducedSetAttention(nn.Module):
    """X -> MAB(X, MAB(I, X)) in every group: all fields meet in m inducing vectors.

    Shapes: float32[G, B, F, d] -> the same.

    Source: Lee et al., Set Transformer, ICML 2019; scaled by the width of a head (our choice).
    """

    def __init__(self, config: ApemConfig) -> None:
        super().__init__()
        self.inducing = nn.Parameter(torch.empty(config.groups, config.inducing, config.dim))
        for vectors in self.inducing.detach():
            nn.init.xavier_uniform_(vectors)
        self.gather = SetAttention(config.groups, config.dim, config.heads)
        self.spread = SetAttention(config.groups, config.dim, config.heads)

    def forward(self, x: Tensor) -> Tensor:
        """float32[G, B, F, d]."""
        h_GBMD, _ = self.gather(self.inducing[:, None], x)
        y: Tensor = self.spread(x, h_GBMD)[0]
        return y


class SetAttention(nn.Module):
    """G multihead attention blocks (MAB of `Apem`) side by side; no order of keys or queries.

    Shapes: queries float32[G, B, q, d] and keys float32[G, B, n, d] -> float32[G, B, q, d] and
    weights float32[G B, h, q, n]; queries [G, 1, q, d] stand for all rows and are projected once.

    Cost: parameters G (4 (d^2 + d) + 4 d).

    Args:
        num: groups (G).
        dim: width (d).
        heads: h.
    """

    def __init__(self, num: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = StackedLinear(num, dim, dim)
        self.key_value = StackedLinear(num, dim, 2 * dim)
        self.outer = StackedLinear(num, dim, dim)
        self.scales = nn.Parameter(torch.ones(2, num, 1, 1, dim))
        self.shifts = nn.Parameter(torch.zeros(2, num, 1, 1, dim))

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Give the attended queries and the attention weights."""
        k_v = _stacked(self.key_value, keys).flatten(0, 1)
        q_GBQD = _stacked(self.query, queries).expand(-1, keys.shape[1], -1, -1)
        k, v = k_v.chunk(2, dim=2)
        read, weights = attend(q_GBQD.flatten(0, 1), k, v, self.heads)
        o_GBQD = self._norm(0, q_GBQD + read.view(q_GBQD.shape))
        return self._norm(1, o_GBQD + relu(_stacked(self.outer, o_GBQD))), weights

    def _norm(self, i: int, x: Tensor) -> Tensor:
        return torch.addcmul(self.shifts[i], self.scales[i], layer_norm(x, x.shape[-1:]))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Multi-head attention for sets of a few dozen narrow vectors.

    The side with fewer vectors is repeated per head with the other heads' units at 0, so that one
    product per row serves all heads. That is `heads` times the arithmetic, but on a CPU it took
    13 ms, forward and backward, where `scaled_dot_product_attention` took 24 (512 rows, the
    three products of 30 fields, 2 groups, 4 inducing vectors, 16 queries, 2 heads).

    Args:
        q: float32[B, Q, D].
        k: float32[B, N, D].
        v: float32[B, N, D].
        heads: h; divides D.

    Returns:
        float32[B, Q, D], and the weights float32[B, h, Q, N].
    """
    own_hD = torch.eye(heads, dtype=q.dtype, device=q.device).repeat_interleave(
        q.shape[2] // heads, dim=1
    )
    own = own_hD[:, None]
    scaled = own * (heads / q.shape[2]) ** 0.5
    if q.shape[1] <= k.shape[1]:
        q_heads = (q[:, None] * scaled).flatten(1, 2)
        weights = softmax(torch.bmm(q_heads, k.transpose(1, 2)), dim=2)
        read_BhQD = torch.unflatten(torch.bmm(weights, v), 1, (heads, -1))
        return (read_BhQD * own).sum(1), torch.unflatten(weights, 1, (heads, -1))
    k_heads = (k[:, None] * scaled).flatten(1, 2)
    v_heads = (v[:, None] * own).flatten(1, 2)
    scores = torch.bmm(k_heads, q.transpose(1, 2))
    weights = softmax(torch.unflatten(scores, 1, (heads, -1)), dim=2)
    return torch.bmm(weights.flatten(1, 2).transpose(1, 2), v_heads), weights.transpose(2, 3)


def _stacked(layer: StackedLinear, x: Tensor) -> Tensor:
    """A layer per group on float32[G, B, n, D_in]."""
    y_NGD = layer(x.flatten(1, 2).transpose(0, 1))
    return torch.unflatten(y_NGD.transpose(0, 1), 1, x.shape[1:3])
