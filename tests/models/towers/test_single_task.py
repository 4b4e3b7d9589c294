import pytest
import torch
from torch.testing import assert_close

from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.models.towers.shared_bottom import SharedBottom
from recsys_mtl.models.towers.single_task import SingleTask
from recsys_mtl.spec.model_config import SharedBottomConfig, SingleTaskConfig

TASKS = ("a", "b")


def made(tasks: tuple[str, ...] = TASKS, hidden: tuple[int, ...] = (5,)) -> SingleTask:
    torch.manual_seed(0)
    return SingleTask(6, tasks, SingleTaskConfig(hidden=hidden, dim=3))


def same_input(x: torch.Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    return BottomOutput(dict.fromkeys(tasks, x), x)


@pytest.mark.parametrize(
    ("hidden", "per_task"), [((), 7 * 3), ((5,), 7 * 5 + 6 * 3), ((5, 4), 7 * 5 + 6 * 4 + 5 * 3)]
)
def test_parameters_and_width(hidden: tuple[int, ...], per_task: int) -> None:
    tower = made(hidden=hidden)
    assert sum(p.numel() for p in tower.parameters()) == 2 * per_task
    assert tower.out_dim == 3


def test_by_hand() -> None:
    """a: relu(2 * 2) = 4; b: relu(1 - 2) = 0."""
    tower = SingleTask(1, TASKS, SingleTaskConfig(hidden=(), dim=1))
    with torch.no_grad():
        tower.bodies.first.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        tower.bodies.first.bias.copy_(torch.tensor([0.0, 1.0]))
    out = tower(same_input(torch.tensor([[2.0]])))
    assert {task: f_t.item() for task, f_t in out.items()} == {"a": 4.0, "b": 0.0}


def test_tasks_share_no_parameter() -> None:
    tower, x = made(), torch.randn(4, 6)
    out = tower(same_input(x))
    grads = torch.autograd.grad(out["b"].sum(), list(tower.parameters()))
    for grad in grads:
        of_a, of_b = grad.chunk(2)
        assert of_a.abs().sum() == 0
        assert of_b.abs().sum() > 0


def test_one_task_is_a_shared_bottom() -> None:
    tower, x = made(("a",)), torch.randn(4, 6)
    bottom = SharedBottom(6, ("a",), SharedBottomConfig(hidden=(5,), dim=3))
    first, last = bottom.body[0][0], bottom.body[0][2]
    with torch.no_grad():
        first.weight.copy_(tower.bodies.first.weight)
        first.bias.copy_(tower.bodies.first.bias)
        last.weight.copy_(tower.bodies.deeper[0].weight[0].T)
        last.bias.copy_(tower.bodies.deeper[0].bias[0])
    assert_close(tower(same_input(x, ("a",)))["a"], bottom(same_input(x, ("a",)))["a"])


def test_each_task_reads_its_own_input() -> None:
    tower, (x, z) = made(), torch.randn(2, 4, 6)
    on_x, on_z = tower(same_input(x)), tower(same_input(z))
    mixed = tower(BottomOutput({"a": x, "b": z}, x))
    assert_close(mixed["a"], on_x["a"])
    assert_close(mixed["b"], on_z["b"])
