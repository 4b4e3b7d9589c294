"""Layers that bottoms, towers and heads share."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import batch_norm, linear, relu, silu

from recsys_mtl.spec.model_config import ExpertStyle


def mlp(in_dim: int, hidden: Sequence[int], out_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU, and dropout, between them; none after the last.

    Parameters: sum of (i + 1) * o over consecutive widths.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(in_dim, width), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        in_dim = width
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))


class BatchNorm(nn.Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, per column over all rows of the batch.

    As `torch.nn.BatchNorm1d`, except that statistics stay in the weights' precision under
    autocast, that they span the rows of all processes of a group (on any device, with any number
    of rows each), and that a training batch of fewer than two rows is normalised by the running
    statistics, which it leaves alone.

    Shapes: [B, F] -> float32[B, F].

    Cost: parameters 2 F, buffers 2 F.

    Args:
        features: columns (F).
    """

    eps = 1e-5
    momentum = 0.1

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """float32[B, F]."""
        x = x.to(self.weight.dtype)
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_all_processes(x)
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training and len(x) > 1,
            self.momentum,
            self.eps,
        )

    def fold(self) -> tuple[Tensor, Tensor]:
        """Give scale and shift, float32[F] each: in eval mode y = x * scale + shift."""
        scale = self.weight / torch.sqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def _over_all_processes(self, x: Tensor) -> Tensor:
        total = _sum_over_processes(torch.cat([x.sum(0), x.new_tensor([len(x)])]))
        count = total[-1]
        mean = total[:-1] / count.clamp(min=1)
        squares = _sum_over_processes((x - mean).square().sum(0))
        # A tensor, not a branch: reading it would stall an accelerator at every layer.
        enough = count > 1
        with torch.no_grad():
            step = self.momentum * enough
            self.running_mean.lerp_(mean, step)
            self.running_var.lerp_(squares / (count - 1).clamp(min=1), step)
        mean = torch.where(enough, mean, self.running_mean)
        var = torch.where(enough, squares / count.clamp(min=1), self.running_var)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


def _sum_over_processes(x: Tensor) -> Tensor:
    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total


def linear_blocks(layer: nn.Linear, inputs: Sequence[Tensor]) -> Tensor:
    """Equal blocks of one linear layer's outputs, each on an input of its own.

        y_k = x_k W_k + b_k,   W = [W_1 ... W_K]

    Neighbours that are the same tensor object are computed in one product, so K times the same
    input costs one call of the layer.

    Args:
        layer: Linear(D_in, K * D).
        inputs: K tensors float32[B, D_in].

    Returns:
        float32[B, K, D].
    """
    width = layer.out_features // len(inputs)
    runs = [list(run) for _, run in groupby(inputs, key=id)]
    if len(runs) == 1:
        y: Tensor = layer(inputs[0])
    else:
        rows = [len(run) * width for run in runs]
        weights, biases = torch.split(layer.weight, rows), torch.split(layer.bias, rows)
        blocks = zip(runs, weights, biases, strict=True)
        y = torch.cat([linear(run[0], weight, bias) for run, weight, bias in blocks], dim=1)
    return y.view(len(y), len(inputs), width)


class Experts(nn.Module):
    """K multi-layer experts, evaluated together.

        relu:     z_k = relu(E_k(x_k))
        bn_silu:  z_k = silu(BN_k(E_k(x_k)))

    The first layers are one Linear(in_dim, K * width), which equals K separate ones, their
    initial distribution included; deeper layers are stacked weights [K, in, out]. ReLU follows
    every inner layer. Whatever the state holds, experts are its first dimension, one after another.

    Shapes: float32[B, D_in], or K of them, -> float32[B, K, D].

    Cost: parameters K * (mlp(D_in; hidden; D) + [bn_silu] 2 D); MACs those of the linear layers.

    Source of bn_silu: HoME (arXiv 2408.05430); the norm on the last layer alone is our reading.

    Args:
        num: experts (K).
        in_dim: width of an input (D_in).
        widths: of each expert's layers; the last is D.
        style: what follows the last layer.
    """

    def __init__(
        self,
        num: int,
        in_dim: int,
        widths: Sequence[int],
        style: ExpertStyle = "relu",
    ) -> None:
        super().__init__()
        self.num = num
        self.first = nn.Linear(in_dim, num * widths[0])
        self.deeper = nn.ModuleList(StackedLinear(num, i, o) for i, o in pairwise(widths))
        self.norm = BatchNorm(num * widths[-1]) if style == "bn_silu" else None

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Outputs of all experts, float32[B, K, D].

        Args:
            x: one input for all experts, or one for each (`linear_blocks`).
        """
        z_BKD = linear_blocks(self.first, [x] * self.num if isinstance(x, Tensor) else x)
        for layer in self.deeper:
            z_BKD = layer(relu(z_BKD))
        if self.norm is None:
            return relu(z_BKD)
        return silu(self.norm(z_BKD.flatten(1))).view(z_BKD.shape)


class StackedLinear(nn.Module):
    """K linear layers side by side: y_k = x_k W_k + b_k.

    Shapes: float32[B, K, D_in] -> float32[B, K, D_out].
    """

    def __init__(self, num: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        # Slice by slice: an initialiser would take the fan-in of a 3-D weight from K.
        layers = [nn.Linear(in_dim, out_dim) for _ in range(num)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """float32[B, K, D_out]."""
        y_KBD = torch.baddbmm(self.bias[:, None], x.transpose(0, 1), self.weight)
        return y_KBD.transpose(0, 1)
