import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing import assert_close

from recsys_mtl.models.layers import BatchNorm, Experts, StackedLinear, linear_blocks, mlp


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


def norms(features: int) -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Ours and PyTorch's with the same weights, neither the identity."""
    ours, theirs = BatchNorm(features), nn.BatchNorm1d(features)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 2, features))
            norm.bias.copy_(torch.linspace(-1, 1, features))
    return ours, theirs


def test_batch_norm_by_hand() -> None:
    """Rows 1, 3: mean 2, variance 1 (2 unbiased); running 0 -> 0.2 and 1 -> 1.1."""
    norm = BatchNorm(1)
    y = norm(torch.tensor([[1.0], [3.0]]))
    assert_close(y, torch.tensor([[-1.0], [1.0]]), rtol=0, atol=1e-5)
    assert_close(norm.running_mean, torch.tensor([0.2]))
    assert_close(norm.running_var, torch.tensor([1.1]))


def test_batch_norm_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    (ours, theirs), y = norms(4), torch.randn(9, 4)
    for _ in range(3):
        x_ours = (torch.randn(9, 4) * 3 + 5).requires_grad_()
        x_theirs = x_ours.detach().clone().requires_grad_()
        ((ours(x_ours) - y) ** 2).sum().backward()
        ((theirs(x_theirs) - y) ** 2).sum().backward()
        assert_close(x_ours.grad, x_theirs.grad, rtol=1e-6, atol=1e-6)
    for name in ("weight", "bias"):
        expected = getattr(theirs, name).grad
        assert_close(getattr(ours, name).grad, expected, rtol=1e-6, atol=1e-6)
    for name in ("running_mean", "running_var"):
        assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6)
    x = torch.randn(3, 4)
    assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_training_batch_too_small_for_moments_uses_the_running_ones(rows: int) -> None:
    norm = BatchNorm(3)
    norm(torch.randn(8, 3))
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(rows, 3, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    for name, value in norm.state_dict().items():
        assert torch.equal(value, state[name])
    assert torch.equal(y, norm.eval()(x))
    assert x.grad.abs().sum().item() > 0 or rows == 0


def test_folding_a_batch_norm() -> None:
    norm = norms(4)[0]
    norm(torch.randn(20, 4) * 3 + 1)
    x = torch.randn(6, 4)
    scale, shift = norm.eval().fold()
    assert_close(x * scale + shift, norm(x), rtol=0, atol=1e-6)


def test_batch_norm_keeps_its_precision_under_autocast() -> None:
    """Statistics of x = 300, 301: in bfloat16 a variance of 0.25 beside 300 ^ 2 is lost."""
    x = torch.tensor([[300.0], [301.0]]).repeat(50, 1)
    norm = BatchNorm(1)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.float32
    assert_close(y, torch.tensor([[-1.0], [1.0]]).repeat(50, 1), rtol=0, atol=1e-3)


def _one_of_two(rank: int, store: str) -> None:
    """A process with 5 or 3 of 8 rows, against one with all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    ours, theirs = norms(4)
    x = (torch.randn(8, 4) * 3 + 100).requires_grad_()
    target, mine = torch.randn(8, 4), slice(0, 5) if rank == 0 else slice(5, 8)
    expected = theirs(x)
    ((expected - target) ** 2).sum().backward()
    part = x.detach()[mine].requires_grad_()
    y = ours(part)
    ((y - target[mine]) ** 2).sum().backward()
    near = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(y, expected[mine], **near)
    assert_close(part.grad, x.grad[mine], **near)
    for name in ("weight", "bias"):
        grad = getattr(ours, name).grad
        dist.all_reduce(grad)
        assert_close(grad, getattr(theirs, name).grad, **near)
    for name in ("running_mean", "running_var"):
        assert_close(getattr(ours, name), getattr(theirs, name), **near)
    # One row in all: the running statistics, unchanged. None in one process, but it takes part.
    few = torch.randn(1 - rank, 4)
    assert_close(ours(few), theirs.eval()(few), **near)
    assert_close(ours.running_var, theirs.running_var, **near)
    dist.destroy_process_group()


@pytest.mark.slow
def test_batch_norm_over_two_processes_equals_one_with_all_rows(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path / "store"),), nprocs=2)


@pytest.mark.parametrize("pattern", ["aaaa", "abcd", "aabb", "abba"])
def test_blocks_of_a_linear_layer_on_inputs_of_their_own(pattern: str) -> None:
    """Output and gradients are those of four separate layers."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 4 * 3)
    x = {name: torch.randn(6, 5, requires_grad=True) for name in "abcd"}
    inputs, weights = [x[name] for name in pattern], torch.randn(6, 4, 3)
    y = linear_blocks(layer, inputs)
    blocks = zip(inputs, layer.weight.split(3), layer.bias.split(3), strict=True)
    expected = torch.stack([x_k @ weight.T + bias for x_k, weight, bias in blocks], dim=1)
    assert_close(y, expected)
    leaves = [layer.weight, layer.bias, *(x[name] for name in sorted(set(pattern)))]
    assert_close(
        torch.autograd.grad((y * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
    )


def test_one_input_for_all_blocks_is_one_product() -> None:
    layer, calls = nn.Linear(5, 4 * 3), []
    layer.register_forward_hook(lambda *_: calls.append(1))
    linear_blocks(layer, [torch.randn(6, 5)] * 4)
    assert len(calls) == 1


def separate(experts: Experts, k: int, x: Tensor) -> Tensor:
    """Expert k as a chain of plain layers."""
    width = experts.first.out_features // experts.num
    block = slice(k * width, (k + 1) * width)
    z = x @ experts.first.weight[block].T + experts.first.bias[block]
    for layer in experts.deeper:
        z = torch.relu(z) @ layer.weight[k] + layer.bias[k]
    if experts.norm is None:
        return torch.relu(z)
    a = (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + 1e-5)
    block = slice(k * z.shape[1], (k + 1) * z.shape[1])
    a = a * experts.norm.weight[block] + experts.norm.bias[block]
    return a * torch.sigmoid(a)


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize("widths", [(4,), (6, 4), (6, 5, 4)])
def test_experts_equal_separate_experts(widths: tuple[int, ...], style: str) -> None:
    torch.manual_seed(0)
    experts, x = Experts(3, 7, widths, style), torch.randn(5, 7)
    if experts.norm is not None:
        nn.init.normal_(experts.norm.weight)
        nn.init.normal_(experts.norm.bias)
    out = experts(x)
    for k in range(3):
        assert_close(out[:, k], separate(experts, k, x), rtol=1e-4, atol=1e-5)
    sizes = [7, *widths]
    per_expert = sum((i + 1) * o for i, o in pairwise(sizes)) + 2 * widths[-1] * (style != "relu")
    assert num_parameters(experts) == 3 * per_expert


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
def test_experts_on_inputs_of_their_own(style: str) -> None:
    torch.manual_seed(0)
    experts, (x, z) = Experts(3, 7, (6, 4), style), torch.randn(2, 5, 7)
    on_x, on_z = experts(x), experts(z)
    assert_close(experts([x, z, z]), torch.cat([on_x[:, :1], on_z[:, 1:]], dim=1))


def test_stacked_weights_start_like_those_of_one_linear_layer() -> None:
    """Uniform in +-1/sqrt(D_in), whatever the number of layers."""
    torch.manual_seed(0)
    layer = StackedLinear(50, 16, 32)
    for parameter in (layer.weight, layer.bias):
        assert 0.97 / math.sqrt(16) < parameter.abs().max().item() <= 1 / math.sqrt(16)
    assert_close(layer.weight.std(), torch.tensor(1 / math.sqrt(3 * 16)), rtol=0.02, atol=0)
