"""A transformer over events whose layer norms are generated per reader and behaviour."""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, scaled_dot_product_attention

from recsys_mtl.spec.model_config import DtrnBottomConfig


class Hypernetwork(nn.Module):
    """Scales and shifts of all layer norms, from who reads (r) and what was done (m).

        h_rm = [a_r; c_m]
        theta_rm = W2 relu(W1 h_rm + b1) + b2 = (g1, beta1, g2, beta2) per layer, gamma = 1 + g

    W2 starts at N(0, 0.01^2) and b2 at 0, so that training starts from nearly one transformer.
    a and c start at N(0, 1) (our choice). No input enters: the output is a constant once trained.

    Shapes: -> float32[R, M, L, 4, d].

    Cost: parameters (R + M) d_t + (2 d_t + 1) h + (h + 1) 4 L d; MACs per step, whatever the
    rows, R M (2 d_t h + 4 h L d).

    Source: task-specific interest module of DTRN (CIKM 2023, arXiv 2308.05996); that layer norms
    are what is generated is published, all sizes are our reading.

    Args:
        num_readers: R.
        num_behaviours: M.
        config: widths d_t, h, d and layers L.
    """

    def __init__(self, num_readers: int, num_behaviours: int, config: DtrnBottomConfig) -> None:
        super().__init__()
        self.readers = nn.Parameter(torch.randn(num_readers, config.task_dim))
        self.behaviours = nn.Parameter(torch.randn(num_behaviours, config.task_dim))
        self.inner = nn.Linear(2 * config.task_dim, config.hyper_hidden)
        self.outer = nn.Linear(config.hyper_hidden, config.layers * 4 * config.dim)
        nn.init.normal_(self.outer.weight, std=0.01)
        nn.init.zeros_(self.outer.bias)
        self._shape = (num_readers, num_behaviours, config.layers, 4, config.dim)

    def forward(self) -> Tensor:
        """float32[R, M, L, 4, d]."""
        pairs = (*self._shape[:2], -1)
        a, c = self.readers[:, None].expand(pairs), self.behaviours[None].expand(pairs)
        theta: Tensor = self.outer(relu(self.inner(torch.cat([a, c], dim=2))))
        return theta.view(self._shape)


class ConditionalTransformer(nn.Module):
    """L layers with weights for all readers and behaviours; only the norms differ.

        H_r = CLN1_r(X + MHA(X; mask))
        Y_r = CLN2_r(H_r + W_b relu(W_a H_r + b_a) + b_b)
        CLN_r(x) = (1 + g_r) * (x - mean x) / sqrt(var x + eps) + beta_r

    Norms follow the sums (our reading): before them the first layer's attention would depend on
    the reader; as it is, it is computed once. Q, K, V and O have no bias.

    Shapes: float32[B, S, d], mask bool[B, S], norms float32[R, L, 4, d] -> float32[B, R, S, d];
    what stands at masked positions is finite and has no meaning.

    Cost: parameters L (4 d^2 + (d + 1) d_ff + (d_ff + 1) d); MACs per row with
    a = 4 S d^2 + 2 S^2 d and f = 2 S d d_ff: a + R f + (L - 1) R (a + f).

    Args:
        config: widths d, d_ff, heads and layers L.
    """

    def __init__(self, config: DtrnBottomConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConditionalLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor, norms: Tensor) -> Tensor:
        """Y of all readers, float32[B, R, S, d]."""
        y_BRSD = x[:, None]
        for layer, norm in zip(self.layers, norms.unbind(1), strict=True):
            y_BRSD = layer(y_BRSD, mask, norm)
        return y_BRSD


class ConditionalLayer(nn.Module):
    """One layer of `ConditionalTransformer`; its input may be one for all readers (R' = 1).

    Shapes: float32[B, R', S, d], bool[B, S], float32[R, 4, d] -> float32[B, R, S, d].

    Args:
        config: widths d, d_ff and heads.
    """

    def __init__(self, config: DtrnBottomConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        self.inner = nn.Linear(config.dim, config.ff)
        self.outer = nn.Linear(config.ff, config.dim)

    def forward(self, x: Tensor, mask: Tensor, norm: Tensor) -> Tensor:
        """float32[B, R, S, d]."""
        scale1, shift1, scale2, shift2 = norm[:, :, None].unbind(1)
        h_BRSD = conditional_norm(x + self._attend(x, mask), scale1, shift1)
        deep = self.outer(relu(self.inner(h_BRSD)))
        return conditional_norm(h_BRSD + deep, scale2, shift2)

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Multi-head self-attention to valid positions, float32[B, R', S, d]."""
        rows, readers, steps, dim = x.shape
        # From [B, R', S, 3 d] to three of [B R', heads, S, d / heads].
        qkv = self.query_key_value(x).view(rows * readers, steps, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # The lowest finite number: an empty row attends evenly, where -inf would give NaN.
        bias_BS = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)
        bias = bias_BS[:, None].expand(-1, readers, -1).reshape(-1, 1, 1, steps)
        read = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended: Tensor = self.out(read.transpose(1, 2).reshape(rows, readers, steps, dim))
        return attended


def conditional_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm over the last dimension, times 1 + scale, plus shift; both broadcast."""
    return torch.addcmul(shift, 1 + scale, layer_norm(x, x.shape[-1:]))
