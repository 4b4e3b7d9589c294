import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.models.towers import build_tower
from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.spec.model_config import HeadConfig, MMoEConfig

TASKS = ("a", "b", "c")


def made(tasks: tuple[str, ...] = TASKS, in_dim: int = 6, **config: object) -> MMoE:
    torch.manual_seed(0)
    tower = build_tower(MMoEConfig(**config), in_dim, tasks)
    assert isinstance(tower, MMoE)
    return tower


def same_input(x: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    return BottomOutput(dict.fromkeys(tasks, x), x)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_golden_count() -> None:
    """D_in = 128, D = 32, K = 8, T = 8, heads 32-1: 49,992 with plain gates."""
    tasks = tuple("abcdefgh")
    tower = made(tasks, 128, num_experts=8, expert_dim=32, gate_norm="none")
    heads = [BinaryHead(tower.out_dim, HeadConfig(hidden=(32,))) for _ in tasks]
    assert num_parameters(heads[0]) == 1_089
    assert num_parameters(tower) + sum(map(num_parameters, heads)) == 49_992
    normed = made(tasks, 128, num_experts=8, expert_dim=32, gate_norm="layernorm")
    assert num_parameters(normed) - num_parameters(tower) == 2 * 128


def test_mixture_by_hand() -> None:
    """Experts give relu(x) = 2 and relu(3x) = 6; gate logits 0 and log 3 weigh 1/4 and 3/4: 5."""
    tower = made(("a",), 1, num_experts=2, expert_dim=1, gate_norm="none")
    with torch.no_grad():
        tower.experts.first.weight.copy_(torch.tensor([[1.0], [3.0]]))
        tower.experts.first.bias.zero_()
        tower.gates.weight.zero_()
        tower.gates.bias.copy_(torch.tensor([0.0, 3.0]).log1p() * torch.tensor([0.0, 1.0]))
        tower.gates.bias[1] = torch.tensor(3.0).log()
    assert_close(tower(same_input(torch.tensor([[2.0]]), ("a",)))["a"], torch.tensor([[5.0]]))


def test_one_expert_is_a_shared_bottom() -> None:
    tower, x = made(num_experts=1), torch.randn(4, 6)
    for f_t in tower(same_input(x)).values():
        assert_close(f_t, tower.experts(x)[:, 0])


@pytest.mark.parametrize("hidden", [(), (5,), (5, 7)])
def test_permuting_experts_with_their_gates_changes_nothing(hidden: tuple[int, ...]) -> None:
    tower, x = made(num_experts=4, expert_dim=3, expert_hidden=hidden), torch.randn(4, 6)
    before = tower(same_input(x))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        first = tower.experts.first
        for parameter in (first.weight, first.bias):
            parameter.copy_(parameter.unflatten(0, (4, -1))[order].flatten(0, 1).clone())
        for layer in tower.experts.deeper:
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
        for parameter in (tower.gates.weight, tower.gates.bias):
            parameter.copy_(parameter.unflatten(0, (3, 4))[:, order].flatten(0, 1).clone())
    after = tower(same_input(x))
    for task in TASKS:
        assert_close(after[task], before[task])


def test_gates_mix_with_weights_that_sum_to_one() -> None:
    """Equal experts: the output is theirs, whatever the gates say."""
    tower, x = made(num_experts=3, expert_dim=2), torch.randn(5, 6)
    with torch.no_grad():
        for parameter in (tower.experts.first.weight, tower.experts.first.bias):
            parameter.copy_(parameter[:2].repeat(3, *[1] * (parameter.dim() - 1)))
        tower.gates.weight.mul_(50)
    for f_t in tower(same_input(x)).values():
        assert_close(f_t, tower.experts(x)[:, 0])


def test_tasks_have_gates_of_their_own() -> None:
    tower, x = made(), torch.randn(4, 6)
    out = tower(same_input(x))
    assert tuple(out) == TASKS
    assert not torch.allclose(out["a"], out["b"])
    (grad,) = torch.autograd.grad(out["b"].sum(), tower.gates.weight)
    rows = grad.unflatten(0, (3, 4)).abs().sum((1, 2))
    assert rows[1] > 0
    assert rows[[0, 2]].tolist() == [0, 0]


def test_experts_run_once_per_distinct_input() -> None:
    tower, calls = made(), []
    tower.experts.register_forward_hook(lambda *_: calls.append(1))
    x, z = torch.randn(2, 4, 6)
    shared = tower(same_input(x))
    assert len(calls) == 1
    other = tower(same_input(z))
    calls.clear()
    mixed = tower(BottomOutput({"a": x, "b": z, "c": x}, x))
    assert len(calls) == 2
    for task, expected in (("a", shared), ("b", other), ("c", shared)):
        assert_close(mixed[task], expected[task])


def test_gate_norm_makes_gates_blind_to_scale_and_shift() -> None:
    normed, plain, x = made(), made(gate_norm="none"), torch.randn(4, 6)

    def weights(tower: MMoE, x: Tensor) -> Tensor:
        return tower.gates(tower.gate_norm(x))

    assert_close(weights(normed, 100 * x + 7), weights(normed, x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(weights(plain, 100 * x + 7), weights(plain, x), atol=0.1)
