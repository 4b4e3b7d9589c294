from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.models.towers.ple import PLE, Level
from recsys_mtl.spec.model_config import HeadConfig, MMoEConfig, PLEConfig

TASKS = ("a", "b", "c")


def made(tasks: tuple[str, ...] = TASKS, in_dim: int = 6, **config: object) -> PLE:
    torch.manual_seed(0)
    return PLE(in_dim, tasks, PLEConfig(**config))


def same_input(x: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    return BottomOutput(dict.fromkeys(tasks, x), x)


def own_inputs(rows: int, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    *x, shared = torch.randn(len(tasks) + 1, rows, 6)
    return BottomOutput(dict(zip(tasks, x, strict=True)), shared)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("levels", "style", "expected"),
    [
        (1, "relu", 63_408),
        (1, "bn_silu", 64_176),
        (2, "relu", 78_948),
        (2, "bn_silu", 80_484),
    ],
)
def test_golden_count(levels: int, style: str, expected: int) -> None:
    """D_in = 128, D = 32, 4 + 1 experts, T = 8, heads 32-1 of 1,089; the gate norm comes on top."""
    tower = made(tuple("abcdefgh"), 128, levels=levels, expert_dim=32, expert_style=style)
    head = BinaryHead(tower.out_dim, HeadConfig(hidden=(32,)))
    assert num_parameters(tower) - 2 * 128 + 8 * num_parameters(head) == expected


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("num_specific", "num_shared"), [(1, 2), (2, 0), (0, 3), (3, 1)])
@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_parameter_formula(
    levels: int, num_specific: int, num_shared: int, hidden: tuple[int, ...]
) -> None:
    tower = made(
        levels=levels,
        num_specific=num_specific,
        num_shared=num_shared,
        expert_hidden=hidden,
        expert_dim=8,
        expert_style="bn_silu",
    )
    experts, expected = 3 * num_specific + num_shared, 2 * 6
    for level, in_dim in enumerate([6, 8, 8][:levels], start=1):
        mlp = sum((i + 1) * o for i, o in pairwise((in_dim, *hidden, 8)))
        expected += experts * (mlp + 2 * 8)
        expected += 3 * (in_dim + 1) * (num_specific + num_shared)
        expected += (level < levels) * (in_dim + 1) * experts
    assert num_parameters(tower) == expected


def by_hand(levels: int) -> PLE:
    """Gates weigh equally; level 1 has experts x, 2x, 3x (a, b, shared), level 2 x, x, 2x."""
    tower = made(("a", "b"), 1, levels=levels, num_shared=1, expert_dim=1)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
        for level, weights in zip(tower.levels, ([1.0, 2.0, 3.0], [1.0, 1.0, 2.0]), strict=False):
            level.experts.first.weight.copy_(torch.tensor(weights)[:, None])
    return tower


def test_one_level_by_hand() -> None:
    """x = 2: experts 2, 4, 6; a mixes 2 and 6, b mixes 4 and 6."""
    out = by_hand(1)(same_input(torch.tensor([[2.0]]), ("a", "b")))
    assert {task: f_t.item() for task, f_t in out.items()} == {"a": 4.0, "b": 5.0}


def test_two_levels_by_hand() -> None:
    """x_a = 4, x_b = 5, x_s = (2 + 4 + 6) / 3 = 4; then (4 + 8) / 2 and (5 + 8) / 2."""
    out = by_hand(2)(same_input(torch.tensor([[2.0]]), ("a", "b")))
    assert {task: f_t.item() for task, f_t in out.items()} == {"a": 6.0, "b": 6.5}


def naive_level(level: Level, x: list[Tensor], gate_x: list[Tensor]) -> list[Tensor]:
    """One gate and one expert at a time."""
    m_t, m_s = level.num_specific, level.num_shared
    owners = [t for t in range(len(TASKS)) for _ in range(m_t)] + [len(TASKS)] * m_s
    # Expert k from a call with the same input for all experts: its moments are its own.
    z = [level.experts(x[owner])[:, k] for k, owner in enumerate(owners)]

    def gated(logits: Tensor, experts: list[int]) -> Tensor:
        weights = torch.softmax(logits, dim=1)
        return sum(weights[:, [i]] * z[k] for i, k in enumerate(experts))

    out = []
    for t in range(len(TASKS)):
        rows = slice(t * (m_t + m_s), (t + 1) * (m_t + m_s))
        logits = gate_x[t] @ level.task_gates.weight[rows].T + level.task_gates.bias[rows]
        out.append(gated(logits, [k for k, owner in enumerate(owners) if owner in (t, len(TASKS))]))
    if level.shared_gate is not None:
        out.append(gated(level.shared_gate(gate_x[-1]), list(range(len(z)))))
    return out


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize(("num_specific", "num_shared"), [(1, 2), (2, 3), (2, 0), (0, 2)])
def test_levels_follow_the_equations(
    num_specific: int, num_shared: int, style: str, distinct: bool
) -> None:
    tower = made(
        levels=3,
        num_specific=num_specific,
        num_shared=num_shared,
        expert_hidden=(5,),
        expert_dim=4,
        expert_style=style,
    )
    bottom = own_inputs(7) if distinct else same_input(torch.randn(7, 6))
    x = [*bottom.task.values(), bottom.shared]
    gate_x = [tower.gate_norm(x_r) for x_r in x]
    for level in tower.levels:
        x = gate_x = naive_level(level, x, gate_x)
    for f_t, expected in zip(tower(bottom).values(), x, strict=True):
        assert_close(f_t, expected, rtol=1e-4, atol=1e-5)


class Seen:
    """A probe that keeps all mixtures, and empties those of one reader."""

    def __init__(self, spoil: str = "") -> None:
        self.mixtures: list[Mixture] = []
        self.spoil = spoil

    def __call__(self, mixture: Mixture) -> Mixture:
        self.mixtures.append(mixture)
        if mixture.reader != self.spoil:
            return mixture
        return replace(mixture, weights=torch.zeros_like(mixture.weights))


def test_a_probe_sees_every_gate() -> None:
    tower, probe = made(("a", "b"), num_shared=2, expert_dim=4), Seen()
    bottom = own_inputs(5, ("a", "b"))
    plain, probed = tower(bottom), tower(bottom, probe)
    for task in ("a", "b"):
        assert_close(probed[task], plain[task])
    shared = ("shared/0", "shared/1")
    assert [(m.layer, m.reader, m.experts) for m in probe.mixtures] == [
        ("1", "a", ("a/0", *shared)),
        ("1", "b", ("b/0", *shared)),
        ("1", "shared", ("a/0", "b/0", *shared)),
        ("2", "a", ("a/0", *shared)),
        ("2", "b", ("b/0", *shared)),
    ]
    of_a, _, of_all = probe.mixtures[:3]
    assert torch.equal(of_a.outputs, of_all.outputs[:, [0, 2, 3]])


def test_a_probe_may_intervene() -> None:
    """Without what `shared` reads, level 2 has what it has for x_s = 0."""
    tower = made(levels=2, expert_dim=4)
    x = torch.randn(5, 6)
    out = tower(same_input(x), Seen(spoil="shared"))
    first, second = tower.levels
    x_1 = first([x] * 4, [tower.gate_norm(x)] * 4, None)
    x_1[-1] = torch.zeros_like(x_1[-1])
    for f_t, expected in zip(out.values(), second(x_1, x_1, None), strict=True):
        assert_close(f_t, expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("style", ["relu", "bn_silu"])
def test_rows_of_gates_sum_to_one(training: bool, style: str) -> None:
    tower, probe = made(expert_style=style).train(training), Seen()
    tower(same_input(100 * torch.randn(50, 6)), probe)
    assert len(probe.mixtures) == 4 + 3
    for mixture in probe.mixtures:
        assert_close(mixture.weights.sum(1), torch.ones(50), rtol=0, atol=1e-6)


def copied(mmoe: MMoE, cgc: PLE) -> None:
    """Copy an MMoE's weights to a CGC with the same number of experts per gate."""
    (level,) = cgc.levels
    level.experts.load_state_dict(mmoe.experts.state_dict())
    level.task_gates.load_state_dict(mmoe.gates.state_dict())
    cgc.gate_norm.load_state_dict(mmoe.gate_norm.state_dict())


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
@pytest.mark.parametrize(
    ("tasks", "specific", "shared"), [(TASKS, 0, 4), (("a",), 0, 4), (("a",), 1, 3), (("a",), 4, 0)]
)
def test_cgc_without_specific_experts_or_with_one_task_is_mmoe(
    tasks: tuple[str, ...], specific: int, shared: int, style: str
) -> None:
    cgc = made(tasks, levels=1, num_specific=specific, num_shared=shared, expert_style=style)
    mmoe = MMoE(6, tasks, MMoEConfig(num_experts=4, expert_style=style))
    copied(mmoe, cgc)
    bottom = same_input(torch.randn(5, 6), tasks)
    expected = mmoe(bottom)
    for task, f_t in cgc(bottom).items():
        assert_close(f_t, expected[task])


def gradients(tower: PLE, loss: Tensor) -> dict[str, Tensor]:
    tower.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in tower.named_parameters()
    }


@pytest.mark.parametrize("levels", [1, 2])
def test_a_task_gives_no_gradient_to_what_others_own_in_the_last_level(levels: int) -> None:
    tower = made(levels=levels, num_specific=2, num_shared=1, expert_dim=4)
    grads = gradients(tower, tower(same_input(torch.randn(9, 6)))["b"].square().sum())
    last = f"levels.{levels - 1}"
    # Owners a, a, b, b, c, c, shared; gates a, b, c.
    owns = grads[f"{last}.experts.first.weight"].view(7, -1).abs().sum(1) > 0
    assert owns.tolist() == [False, False, True, True, False, False, True]
    gates = grads[f"{last}.task_gates.weight"].view(3, -1).abs().sum(1) > 0
    assert gates.tolist() == [False, True, False]


def test_a_task_reaches_other_tasks_inner_experts_but_not_their_gates() -> None:
    """Level 1's shared gate mixes all experts; x_a^1 and x_c^1 have no reader but their tasks."""
    tower = made(levels=2, num_specific=1, num_shared=1, expert_dim=4)
    grads = gradients(tower, tower(same_input(torch.randn(9, 6)))["b"].square().sum())
    owns = grads["levels.0.experts.first.weight"].view(4, -1).abs().sum(1) > 0
    assert owns.all()
    gates = grads["levels.0.task_gates.weight"].view(3, -1).abs().sum(1) > 0
    assert gates.tolist() == [False, True, False]
    assert grads["levels.0.shared_gate.weight"].abs().sum() > 0


def test_without_shared_experts_tasks_are_independent() -> None:
    tower = made(num_specific=2, num_shared=0)
    bottom = own_inputs(5)
    other = BottomOutput(bottom.task | {"a": torch.randn(5, 6)}, torch.randn(5, 6))
    before, after = tower(bottom), tower(other)
    assert not torch.allclose(before["a"], after["a"])
    for task in ("b", "c"):
        assert_close(before[task], after[task])


def test_permuting_shared_experts_with_their_gates_changes_nothing() -> None:
    tower, x = made(num_specific=1, num_shared=3, expert_dim=4), torch.randn(5, 6)
    before = tower(same_input(x))
    level, order = tower.levels[0], [2, 0, 1]
    with torch.no_grad():
        for parameter in (*level.experts.parameters(), *level.shared_gate.parameters()):
            blocks = parameter.view(6, -1)
            blocks[3:] = blocks[3:][order].clone()
        for parameter in level.task_gates.parameters():
            columns = parameter.view(3, 4, -1)
            columns[:, 1:] = columns[:, 1:][:, order].clone()
    for task, f_t in tower(same_input(x)).items():
        assert_close(f_t, before[task])


def test_a_plain_bottom_is_read_by_all_first_experts_in_one_product() -> None:
    tower, calls = made(), []
    tower.levels[0].experts.first.register_forward_hook(lambda *_: calls.append(1))
    tower.gate_norm.register_forward_hook(lambda *_: calls.append(1))
    tower(same_input(torch.randn(5, 6)))
    assert len(calls) == 2


def test_gates_of_the_first_level_are_blind_to_scale_and_shift() -> None:
    tower, x = made(levels=1), 10 * torch.randn(4, 6)
    one, other = Seen(), Seen()
    tower(same_input(x), one)
    tower(same_input(100 * x + 7), other)
    for before, after in zip(one.mixtures, other.mixtures, strict=True):
        assert_close(after.weights, before.weights, rtol=1e-3, atol=1e-4)


def test_no_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="num_shared and num_specific are both 0"):
        made(num_shared=0, num_specific=0)


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
def test_rows_are_independent_in_eval(style: str) -> None:
    tower = made(expert_style=style)
    tower(same_input(torch.randn(30, 6) * 2 + 1))
    tower.eval()
    x, order = torch.randn(10, 6), torch.randperm(10)
    whole, permuted, part = (tower(same_input(rows)) for rows in (x, x[order], x[:3]))
    for task in TASKS:
        assert_close(permuted[task], whole[task][order], rtol=0, atol=1e-6)
        assert_close(part[task], whole[task][:3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("style", ["relu", "bn_silu"])
def test_bfloat16_agrees_with_float32(style: str) -> None:
    """bfloat16 keeps 8 bits: 1 / 256 of outputs around 1, through two levels."""
    tower, x = made(in_dim=64, expert_style=style), torch.randn(50, 64)
    exact = tower(same_input(x))
    with torch.autocast("cpu", torch.bfloat16):
        rough = tower(same_input(x))
    for task in TASKS:
        assert_close(rough[task].float(), exact[task], rtol=0.05, atol=0.05)
        assert not torch.equal(rough[task].float(), exact[task])


def test_macs_of_a_row() -> None:
    """Experts, gates and one product for the mixtures; 3 tasks, 2 + 4 experts, two levels."""
    tower = made(num_specific=2, num_shared=4, expert_dim=8)
    with FlopCounterMode(display=False) as counter:
        tower(same_input(torch.randn(5, 6)))
    level_1 = 10 * 6 * 8 + 3 * 6 * (2 + 4) + 6 * 10 + (3 + 1) * 10 * 8
    level_2 = 10 * 8 * 8 + 3 * 8 * (2 + 4) + 3 * 10 * 8
    assert counter.get_total_flops() == 2 * 5 * (level_1 + level_2)
