import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from recsys_mtl.models.layers import Experts, StackedLinear, mlp


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("hidden", "expected"), [((), 5 + 1), ((3,), 6 * 3 + 4 * 1), ((3, 2), 6 * 3 + 4 * 2 + 3)]
)
def test_parameters_of_an_mlp(hidden: tuple[int, ...], expected: int) -> None:
    assert num_parameters(mlp(5, hidden, 1)) == expected


def test_an_mlp_by_hand() -> None:
    """relu([1, -1] * 2) = [2, 0]; no activation after the last layer: -3 * 2 = -6."""
    layers = mlp(1, (2,), 1)
    with torch.no_grad():
        for parameter, value in zip(
            layers.parameters(), ([[1.0], [-1.0]], [0.0, 0.0], [[-3.0, 5.0]], [0.0]), strict=True
        ):
            parameter.copy_(torch.tensor(value))
    assert layers(torch.tensor([[2.0]])).tolist() == [[-6.0]]


def test_dropout_stands_between_layers_and_ends_in_eval() -> None:
    layers = mlp(4, (64,), 1, dropout=0.5)
    x = torch.ones(1, 4)
    assert len({layers(x).item() for _ in range(5)}) == 5
    layers.eval()
    assert layers(x) == layers(x)


def separate(experts: Experts, k: int, x: torch.Tensor) -> torch.Tensor:
    """Expert k as a chain of plain layers."""
    width = experts.first.out_features // experts.num
    block = slice(k * width, (k + 1) * width)
    z = torch.relu(x @ experts.first.weight[block].T + experts.first.bias[block])
    for layer in experts.deeper:
        z = torch.relu(z @ layer.weight[k] + layer.bias[k])
    return z


@pytest.mark.parametrize("widths", [(4,), (6, 4), (6, 5, 4)])
def test_experts_equal_separate_experts(widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    experts, x = Experts(3, 7, widths), torch.randn(5, 7)
    out = experts(x)
    for k in range(3):
        torch.testing.assert_close(out[:, k], separate(experts, k, x))
    sizes = [7, *widths]
    per_expert = sum((i + 1) * o for i, o in pairwise(sizes))
    assert num_parameters(experts) == 3 * per_expert


def test_stacked_weights_start_like_those_of_one_linear_layer() -> None:
    """Uniform in +-1/sqrt(D_in), whatever the number of layers."""
    torch.manual_seed(0)
    layer = StackedLinear(50, 16, 32)
    for parameter in (layer.weight, layer.bias):
        assert 0.97 / math.sqrt(16) < parameter.abs().max().item() <= 1 / math.sqrt(16)
    torch.testing.assert_close(
        layer.weight.std(), torch.tensor(1 / math.sqrt(3 * 16)), rtol=0.02, atol=0
    )
