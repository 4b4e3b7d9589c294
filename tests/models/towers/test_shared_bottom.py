import torch
from torch.testing import assert_close

from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.models.towers.shared_bottom import SharedBottom
from recsys_mtl.spec.model_config import SharedBottomConfig


def made(tasks: tuple[str, ...] = ("a", "b"), in_dim: int = 6) -> SharedBottom:
    torch.manual_seed(0)
    return SharedBottom(in_dim, tasks, SharedBottomConfig(hidden=(5,), dim=3))


def test_parameters_and_width() -> None:
    tower = made()
    assert sum(p.numel() for p in tower.parameters()) == 7 * 5 + 6 * 3
    assert tower.out_dim == 3


def test_by_hand() -> None:
    """x = 2: relu([2, -2]) = [2, 0], then relu(3 * 2 - 1) = 5."""
    tower = SharedBottom(1, ("a",), SharedBottomConfig(hidden=(2,), dim=1))
    values = ([[1.0], [-1.0]], [0.0, 0.0], [[3.0, 9.0]], [-1.0])
    with torch.no_grad():
        for parameter, value in zip(tower.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    x = torch.tensor([[2.0], [0.0]])
    assert tower(BottomOutput({"a": x}, x))["a"].tolist() == [[5.0], [0.0]]


def test_all_tasks_get_the_same_representation_computed_once() -> None:
    tower, calls = made(), []
    tower.body.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(4, 6)
    out = tower(BottomOutput({"a": x, "b": x}, x))
    assert out["a"] is out["b"]
    assert len(calls) == 1


def test_a_task_less_leaves_the_others_unchanged() -> None:
    x = torch.randn(4, 6)
    both = made()(BottomOutput({"a": x, "b": x}, x))
    alone = made(("a",))(BottomOutput({"a": x}, x))
    assert torch.equal(both["a"], alone["a"])


def test_distinct_inputs_go_through_the_same_layers() -> None:
    tower, (x, z) = made(), torch.randn(2, 4, 6)
    mixed = tower(BottomOutput({"a": x, "b": z}, x))
    assert_close(mixed["a"], tower.body(x))
    assert_close(mixed["b"], tower.body(z))


def test_gradient_at_the_representation_is_the_sum_over_tasks() -> None:
    tower, x = made(), torch.randn(4, 6)
    weights = list(tower.parameters())

    def gradients(of: str) -> list[torch.Tensor]:
        out = tower(BottomOutput({"a": x, "b": x}, x))
        loss = {"a": out["a"].sum(), "b": out["b"].pow(2).sum()}
        total = sum(value for task, value in loss.items() if task in of)
        return list(torch.autograd.grad(total, weights))

    for both, a, b in zip(gradients("ab"), gradients("a"), gradients("b"), strict=True):
        assert_close(both, a + b)
