import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.layers import mlp
from recsys_mtl.models.towers.aitm import Aitm
from recsys_mtl.spec.model_config import AitmConfig, HeadConfig

TASKS = ("click", "view", "like", "buy")
TREE = (-1, 0, 1, 0)
"""click > (view > like, buy)"""


def made(
    tasks: tuple[str, ...] = TASKS,
    parents: tuple[int, ...] = TREE,
    in_dim: int = 6,
    **config: object,
) -> Aitm:
    torch.manual_seed(0)
    tower = Aitm(in_dim, tasks, parents, AitmConfig(**{"hidden": (8,), "dim": 5, **config}))
    if max(parents) >= 0:
        # The published start is too close to 0 to tell transitions apart at float32.
        nn.init.normal_(tower.transfer.weight)
    return tower


def same_input(x: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    return BottomOutput(dict.fromkeys(tasks, x), x)


def num_parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def mixtures(tower: Aitm, bottom: BottomOutput) -> dict[str, Mixture]:
    seen: dict[str, Mixture] = {}

    def probe(mixture: Mixture) -> Mixture:
        seen[mixture.reader] = mixture
        return mixture

    tower(bottom, probe)
    return seen


def test_golden_count() -> None:
    """18 fields of width 5, two tasks, linear heads: 48,162 dense parameters."""
    tower = Aitm(90, ("click", "buy"), (-1, 0), AitmConfig())
    heads = [BinaryHead(tower.out_dim, HeadConfig(hidden=())) for _ in range(2)]
    assert num_parameters(tower, *heads) == 48_162


@pytest.mark.parametrize("parents", [(-1,), (-1, -1), (-1, 0, 1), TREE, (-1, 0, -1, 2)])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 7)])
def test_parameter_formula(parents: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    num, moves, dim = len(parents), sum(p >= 0 for p in parents), 5
    tower = made(TASKS[:num], parents, hidden=hidden, dim=dim)
    own = num_parameters(mlp(6, hidden, dim))
    transfer = moves * (dim**2 + dim) + (3 * dim**2 if moves else 0)
    assert num_parameters(tower) == num * own + transfer


def test_transfer_by_hand() -> None:
    """q = 2 and 2, p = relu(2 / 2) = 1; scores s and 4 s with s = log(3) / 3 weigh 1/4 and 3/4.

    The child reads H1 (1/4 + 3/4 2) = 4 * 7/4.
    """
    tower = made(("click", "buy"), (-1, 0), 1, hidden=(), dim=1)
    with torch.no_grad():
        tower.own[0].weight.fill_(1)
        tower.own[0].bias.zero_()
        tower.handed[list(tower._parents).index("buy")].weight.fill_(0.5)
        tower.handed[list(tower._parents).index("buy")].bias.zero_()
        tower.transfer.weight.copy_(torch.tensor([[4], [1], [math.log(3) / 3]]))
    z = tower(same_input(torch.tensor([[2.0]]), ("click", "buy")))
    assert_close(z["click"], torch.tensor([[2.0]]))
    assert_close(z["buy"], torch.tensor([[7.0]]))


def test_transfer_equals_the_formula() -> None:
    """<H2 v, H3 v> / sqrt(D) of each v alone, softmax over the two, H1 of both."""
    tower = made()
    bottom = same_input(torch.randn(4, 6))
    z, seen = tower(bottom), mixtures(tower, bottom)
    h1, h2, h3 = tower.transfer.weight.split(5)
    for task, parent in (("view", "click"), ("like", "view"), ("buy", "click")):
        p = torch.relu(tower.handed[list(tower._parents).index(task)](z[parent]))
        v = torch.stack([p, tower._own(bottom)[task]], dim=1)
        scores = torch.einsum("bkd,bkd->bk", v @ h2.T, v @ h3.T) / math.sqrt(5)
        w = scores.softmax(1)
        assert_close(seen[task].weights, w)
        assert_close(z[task], (w[..., None] * (v @ h1.T)).sum(1))


def test_mixtures_are_named_after_their_transition() -> None:
    seen = mixtures(made(), same_input(torch.randn(4, 6)))
    assert {m.layer for m in seen.values()} == {"transfer"}
    assert {task: m.experts for task, m in seen.items()} == {
        "view": ("click/2", "view/0"),
        "like": ("view/3", "like/0"),
        "buy": ("click/4", "buy/0"),
    }
    for mixture in seen.values():
        assert_close(mixture.weights.sum(1), torch.ones(4))
        assert mixture.outputs.shape == (4, 2, 5)


def test_a_probe_may_cut_the_transfer() -> None:
    """With all weight on its own half a child is H1 q_t, whatever its parent says."""
    tower, bottom = made(), same_input(torch.randn(4, 6))

    def cut(m: Mixture) -> Mixture:
        weights = torch.tensor([0.0, 1.0]).expand(4, 2)
        return Mixture(m.layer, m.reader, m.experts, weights, m.outputs)

    h1 = tower.transfer.weight[:5]
    assert_close(tower(bottom, cut)["like"], tower._own(bottom)["like"] @ h1.T)


DESCENDANTS = {
    "click": {"click", "view", "like", "buy"},
    "view": {"view", "like"},
    "like": {"like"},
    "buy": {"buy"},
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_changes_itself_and_what_follows_it(task: str) -> None:
    tower, bottom = made(), same_input(torch.randn(16, 6))
    before = tower(bottom)
    with torch.no_grad():
        tower.own[0].weight[TASKS.index(task)] += torch.randn(6, 8)
    after = tower(bottom)
    assert {t for t in TASKS if not torch.equal(before[t], after[t])} == DESCENDANTS[task]


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_reaches_the_towers_before_it(task: str) -> None:
    tower = made()
    tower(same_input(torch.randn(16, 6)))[task].square().sum().backward()
    for layer in tower.own:
        reached = layer.weight.grad.flatten(1).ne(0).any(1).tolist()
        assert {t for t, is_reached in zip(TASKS, reached, strict=True) if is_reached} == {
            t for t in TASKS if task in DESCENDANTS[t]
        }


def test_one_task_is_an_mlp() -> None:
    tower, x = made(("click",), (-1,), hidden=(8, 7)), torch.randn(4, 6)
    body = mlp(6, (8, 7), 5)
    linears = [layer for layer in body if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for linear, own in zip(linears, tower.own, strict=True):
            linear.weight.copy_(own.weight[0].T)
            linear.bias.copy_(own.bias[0])
    assert_close(tower(same_input(x, ("click",)))["click"], torch.relu(body(x)))


def test_tasks_may_have_inputs_of_their_own() -> None:
    tower, x = made(), torch.randn(4, 6)
    apart = BottomOutput({task: x.clone().requires_grad_() for task in TASKS}, x)
    z = tower(apart)
    for task, expected in tower(same_input(x)).items():
        assert_close(z[task], expected)
    z["like"].sum().backward()
    reached = {task for task in TASKS if apart.task[task].grad.ne(0).any()}
    assert reached == {"click", "view", "like"}


def test_order_of_tasks_does_not_matter() -> None:
    """Children may stand before their parents."""
    tower, bottom = made(), same_input(torch.randn(4, 6))
    order = [2, 3, 1, 0]
    other = made(tuple(TASKS[t] for t in order), (2, 3, 3, -1))
    state = {
        name: value[order] if name.startswith("own.") else value
        for name, value in tower.state_dict().items()
    }
    for i, task in enumerate(other._parents):
        before = list(tower._parents).index(task)
        for part in ("weight", "bias"):
            state[f"handed.{i}.{part}"] = tower.state_dict()[f"handed.{before}.{part}"]
    other.load_state_dict(state)
    expected = tower(bottom)
    for task, z_t in other(bottom).items():
        assert_close(z_t, expected[task])


def test_the_transfer_starts_small() -> None:
    """N(0, 0.01^2): 3,072 draws estimate the deviation to 1.3 %, and the mean to 0.0002."""
    torch.manual_seed(0)
    weight = Aitm(6, TASKS, TREE, AitmConfig()).transfer.weight.detach()
    assert float(weight.std()) == pytest.approx(0.01, rel=0.06)
    assert abs(float(weight.mean())) < 0.001


def test_dropout_follows_the_last_layer() -> None:
    """Without inner layers a root is 0 or doubled."""
    tower, bottom = made(hidden=(), dropout=0.5), same_input(torch.randn(64, 6))
    dropped = tower(bottom)["click"]
    tower.eval()
    kept = tower(bottom)["click"]
    is_doubled = torch.isclose(dropped, 2 * kept)
    assert (is_doubled | (dropped == 0)).all()
    assert 0.3 < float(is_doubled[kept > 0].float().mean()) < 0.7
