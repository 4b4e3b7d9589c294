import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.towers.mmoe import MMoE, expected_load, used_experts
from recsys_mtl.spec.model_config import HeadConfig, MMoEConfig, Routing

TASKS = ("a", "b", "c")


def made(tasks: tuple[str, ...] = TASKS, in_dim: int = 6, **config: object) -> MMoE:
    torch.manual_seed(0)
    return MMoE(in_dim, tasks, MMoEConfig(**{"num_experts": 4, **config}))


def same_input(x: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    return BottomOutput(dict.fromkeys(tasks, x), x)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_golden_count() -> None:
    """D_in = 128, D = 32, K = 8, T = 8, heads 32-1: 49,992 with plain gates, MMoE* 50,504."""
    tasks = tuple("abcdefgh")
    tower = made(tasks, 128, num_experts=8, expert_dim=32, gate_norm="none")
    heads = [BinaryHead(tower.out_dim, HeadConfig(hidden=(32,))) for _ in tasks]
    assert num_parameters(heads[0]) == 1_089
    assert num_parameters(tower) + sum(map(num_parameters, heads)) == 49_992
    normed = made(tasks, 128, num_experts=8, expert_dim=32, gate_norm="layernorm")
    assert num_parameters(normed) - num_parameters(tower) == 2 * 128
    starred = made(
        tasks, 128, num_experts=8, expert_dim=32, gate_norm="none", expert_style="bn_silu"
    )
    assert num_parameters(starred) + sum(map(num_parameters, heads)) == 50_504


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


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 7)])
def test_permuting_experts_with_their_gates_changes_nothing(
    hidden: tuple[int, ...], style: str
) -> None:
    config = {"num_experts": 4, "expert_dim": 3, "expert_hidden": hidden, "expert_style": style}
    tower, x = made(**config), torch.randn(4, 6)
    if tower.experts.norm is not None:
        nn.init.normal_(tower.experts.norm.weight)
    before = tower(same_input(x))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for parameter in tower.experts.parameters():
            parameter.copy_(parameter.unflatten(0, (4, -1))[order].flatten(0, 1).clone())
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


def test_experts_see_each_distinct_input_once() -> None:
    tower, rows = made(), []
    tower.experts.register_forward_hook(lambda _, inputs, out: rows.append(len(out)))
    x, z = torch.randn(2, 4, 6)
    shared = tower(same_input(x))
    assert rows == [4]
    other = tower(same_input(z))
    rows.clear()
    mixed = tower(BottomOutput({"a": x, "b": z, "c": x}, x))
    assert rows == [8]
    for task, expected in (("a", shared), ("b", other), ("c", shared)):
        assert_close(mixed[task], expected[task])


def test_a_batch_norm_takes_its_moments_over_all_distinct_inputs() -> None:
    """So that training and serving normalise alike, however the tasks' inputs differ."""
    tower = made(num_experts=1, expert_dim=2, expert_style="bn_silu")
    x, z = torch.randn(50, 6), 3 * torch.randn(50, 6) + 1
    tower(BottomOutput({"a": x, "b": z, "c": x}, x))
    a = tower.experts.first(torch.cat([x, z]))
    assert_close(tower.experts.norm.running_mean, 0.1 * a.mean(0))
    assert_close(tower.experts.norm.running_var, 0.9 + 0.1 * a.var(0))


def test_gate_norm_makes_gates_blind_to_scale_and_shift() -> None:
    normed, plain, x = made(), made(gate_norm="none"), torch.randn(4, 6)

    def weights(tower: MMoE, x: Tensor) -> Tensor:
        return tower.gates(tower.gate_norm(x))

    assert_close(weights(normed, 100 * x + 7), weights(normed, x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(weights(plain, 100 * x + 7), weights(plain, x), atol=0.1)


class Seen:
    """A probe that keeps all mixtures, and changes the weights of one reader."""

    def __init__(self, spoil: str = "") -> None:
        self.mixtures: list[Mixture] = []
        self.spoil = spoil

    def __call__(self, mixture: Mixture) -> Mixture:
        self.mixtures.append(mixture)
        if mixture.reader != self.spoil:
            return mixture
        zero = torch.zeros_like(mixture.weights)
        return replace(mixture, weights=zero)


@pytest.mark.parametrize("routing", [None, Routing()])
@pytest.mark.parametrize("distinct", [False, True])
def test_a_probe_sees_every_gate_and_may_intervene(distinct: bool, routing: Routing | None) -> None:
    tower = made(routing=routing, expert_dim=2).eval()
    x, z = torch.randn(2, 5, 6)
    bottom = BottomOutput({"a": x, "b": z if distinct else x, "c": x}, x)
    probe = Seen(spoil="b")
    plain, probed = tower(bottom), tower(bottom, probe)
    assert [(m.layer, m.reader) for m in probe.mixtures] == [("1", task) for task in TASKS]
    for mixture in probe.mixtures:
        assert mixture.experts == ("shared/0", "shared/1", "shared/2", "shared/3")
        assert_close(mixture.sum(), plain[mixture.reader])
    assert_close(probed["a"], plain["a"])
    assert_close(probed["c"], plain["c"])
    assert probed["b"].tolist() == [[0, 0]] * 5


@pytest.mark.parametrize("routing", [None, Routing(top_k=2), Routing(top_k=3)])
@pytest.mark.parametrize("training", [False, True])
def test_rows_of_gates_sum_to_one(training: bool, routing: Routing | None) -> None:
    tower, probe = made(routing=routing).train(training), Seen()
    tower(same_input(100 * torch.randn(50, 6)), probe)
    for mixture in probe.mixtures:
        assert_close(mixture.weights.sum(1), torch.ones(50), rtol=0, atol=1e-6)
        assert (mixture.weights >= 0).all()


def test_top_k_by_hand() -> None:
    """Logits 0, log 3, -1, 0.5 and top 2: softmax over log 3 and 0.5, zero elsewhere."""
    tower = made(("a",), routing=Routing(top_k=2), gate_norm="none").eval()
    with torch.no_grad():
        tower.gates.weight.zero_()
        tower.gates.bias.copy_(torch.tensor([0.0, math.log(3), -1.0, 0.5]))
    probe = Seen()
    tower(same_input(torch.randn(3, 6), ("a",)), probe)
    total = 3 + math.exp(0.5)
    expected = torch.tensor([0.0, 3 / total, 0.0, math.exp(0.5) / total])
    assert_close(probe.mixtures[0].weights, expected.expand(3, 4))
    assert tower.balance_loss is None


def test_noise_moves_the_choice_in_training_only() -> None:
    tower, x = made(routing=Routing(top_k=1)), torch.randn(200, 6)

    def chosen() -> Tensor:
        probe = Seen()
        tower(same_input(x), probe)
        return probe.mixtures[0].weights.argmax(1)

    assert (chosen() != chosen()).any()
    tower.eval()
    assert torch.equal(chosen(), chosen())
    tower.train()
    with torch.no_grad():
        tower.noise.bias.fill_(-50)
        tower.gates.weight.mul_(100)
    assert torch.equal(chosen(), chosen())


def test_expected_load_by_hand() -> None:
    """Noisy 3, 2, 1, top 1: expert 0 must exceed 2, the others 3; scale 1 and 0.5."""
    clean = torch.tensor([[[2.5, 2.0, 3.5]]])
    noisy = torch.tensor([[[3.0, 2.0, 1.0]]])
    scale = torch.tensor([[[1.0, 1.0, 0.5]]])
    load = expected_load(clean, noisy, scale, 1)
    # Phi(0.5), Phi(-1), Phi(1).
    assert_close(load, torch.tensor([[0.691462, 0.158655, 0.841345]]))


def test_expected_load_is_the_chance_to_be_chosen_when_noise_is_drawn_again() -> None:
    """Over many rows with the same logits it averages to the share of rows that choose k."""
    torch.manual_seed(0)
    clean = torch.tensor([0.3, 0.0, -0.5, 0.1, 0.9]).expand(40_000, 1, 5)
    scale = torch.tensor([0.5, 1.0, 2.0, 0.3, 0.7]).expand(40_000, 1, 5)
    noisy = clean + scale * torch.randn(40_000, 1, 5)
    chosen = torch.zeros_like(noisy).scatter(2, noisy.topk(2, dim=2).indices, 1.0)
    load = expected_load(clean, noisy, scale, 2)
    assert_close(load / 40_000, chosen.mean(0), rtol=0, atol=0.01)


def test_balance_loss_by_hand() -> None:
    """Noise at its floor of 0.01, all rows to expert 0 of 2: importance and load are [B, 0].

    cv^2 = 1 for each (mean B / 2, variance B^2 / 4), so 0.1 * 2 for each of two tasks.
    """
    routing = Routing(top_k=1, balance=0.1)
    tower = made(("a", "b"), routing=routing, num_experts=2, gate_norm="none")
    with torch.no_grad():
        tower.gates.weight.zero_()
        tower.gates.bias.copy_(torch.tensor([5.0, 0.0, 5.0, 0.0]))
        tower.noise.bias.fill_(-50)
    x = torch.randn(7, 6)
    tower(same_input(x, ("a", "b")))
    assert_close(tower.balance_loss, torch.tensor(0.4))
    tower.eval()
    tower(same_input(x, ("a", "b")))
    assert tower.balance_loss is None


def test_dense_gates_have_no_balance_loss() -> None:
    tower = made()
    tower(same_input(torch.randn(7, 6)))
    assert tower.balance_loss is None


def test_the_balance_loss_spreads_rows_over_experts() -> None:
    """Gates that start with one favourite; only the balance loss trains."""
    tower, x = made(("a",), routing=Routing(top_k=1, balance=1.0)), torch.randn(512, 6)
    with torch.no_grad():
        tower.gates.bias.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
    optimizer = torch.optim.Adam([*tower.gates.parameters(), *tower.noise.parameters()], lr=0.05)

    def share() -> float:
        probe = Seen()
        tower(same_input(x, ("a",)), probe)
        return (probe.mixtures[0].weights > 0).float().mean(0).max().item()

    assert share() > 0.9
    for _ in range(100):
        tower(same_input(x, ("a",)))
        optimizer.zero_grad()
        tower.balance_loss.backward()
        optimizer.step()
    assert share() < 0.4


def test_routing_that_keeps_all_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="routing.top_k is 4 but there are 4 experts"):
        made(num_experts=4, routing=Routing(top_k=4))


def test_parameters_with_routing() -> None:
    dense, routed = made(num_experts=5), made(num_experts=5, routing=Routing())
    assert num_parameters(routed) - num_parameters(dense) == 3 * 7 * 5


def avoiding(tower: MMoE, task: int, experts: list[int]) -> None:
    """Let a task's gate never choose some experts."""
    with torch.no_grad():
        tower.gates.bias.view(len(tower.tasks), -1)[task, experts] = -100


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize("dropped", [[1], [1, 4], [0, 1, 4]])
def test_a_restricted_tower_gives_the_same_when_dropped_experts_are_unused(
    dropped: list[int], style: str
) -> None:
    config = {"num_experts": 5, "expert_dim": 3, "expert_hidden": (4,), "expert_style": style}
    tower = made(routing=Routing(top_k=2), **config)
    tower(same_input(torch.randn(30, 6) + 2))
    tower.eval()
    for task in (0, 2):
        avoiding(tower, task, dropped)
    x, probe = torch.randn(100, 6), Seen()
    full = tower(same_input(x), probe)
    used = used_experts(m.weights for m in probe.mixtures if m.reader in ("a", "c"))
    assert used == tuple(k for k in range(5) if k not in dropped)
    small = tower.restrict(("c", "a"), used)
    assert small.tasks == ("c", "a")
    assert small.experts.num == len(used)
    assert not small.training
    out = small(same_input(x, ("c", "a")))
    assert tuple(out) == ("c", "a")
    for task, f_t in out.items():
        assert_close(f_t, full[task], rtol=1e-6, atol=1e-6)


def test_restricting_a_dense_tower_renormalises_its_weights() -> None:
    tower, x = made(expert_dim=2).eval(), torch.randn(6, 6)
    full, small = Seen(), Seen()
    tower(same_input(x), full)
    tower.restrict(("b",), (3, 1))(same_input(x, ("b",)), small)
    (mixture,) = small.mixtures
    kept = full.mixtures[1].weights[:, [3, 1]]
    assert_close(mixture.weights, kept / kept.sum(1, keepdim=True))
    assert_close(mixture.outputs, full.mixtures[1].outputs[:, [3, 1]])


def test_used_experts_by_hand() -> None:
    a = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])
    b = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert used_experts([a]) == (1, 2)
    assert used_experts([a, b]) == (1, 2, 3)


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize("routing", [None, Routing()])
def test_rows_are_independent_in_eval(style: str, routing: Routing | None) -> None:
    tower = made(expert_style=style, routing=routing)
    tower(same_input(torch.randn(30, 6) * 2 + 1))
    tower.eval()
    x, order = torch.randn(10, 6), torch.randperm(10)
    whole, permuted, part = (tower(same_input(rows)) for rows in (x, x[order], x[:3]))
    for task in TASKS:
        assert_close(permuted[task], whole[task][order], rtol=0, atol=1e-6)
        assert_close(part[task], whole[task][:3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
def test_bfloat16_agrees_with_float32(style: str) -> None:
    """bfloat16 keeps 8 bits: 1 / 256 of outputs around 1."""
    tower, x = made(in_dim=64, expert_style=style), torch.randn(50, 64)
    exact = tower(same_input(x))
    with torch.autocast("cpu", torch.bfloat16):
        rough = tower(same_input(x))
    for task in TASKS:
        assert_close(rough[task].float(), exact[task], rtol=0.02, atol=0.02)
        assert not torch.equal(rough[task].float(), exact[task])


@pytest.mark.parametrize("routing", [None, Routing()])
def test_macs_of_a_row(routing: Routing | None) -> None:
    """Experts, gates (those of the noise in training only), mixtures; T = 3, K = 4."""
    tower = made(expert_dim=8, routing=routing)
    for training in (True, False):
        tower.train(training)
        with FlopCounterMode(display=False) as counter:
            tower(same_input(torch.randn(5, 6)))
        gates = 2 if training and routing is not None else 1
        assert counter.get_total_flops() == 2 * 5 * (4 * 6 * 8 + gates * 3 * 6 * 4 + 3 * 4 * 8)
