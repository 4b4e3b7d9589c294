import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from torch.testing import assert_close

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.layers import BatchNorm, Experts
from recsys_mtl.models.towers.feature_gate import FeatureGate, OwnedExperts
from recsys_mtl.models.towers.home import HoME
from recsys_mtl.spec.model_config import HeadConfig, HoMEConfig

WATCH, INTER = 0, 1
GROUPS = {"watch": ("evtr", "lvtr"), "inter": ("ltr", "cmtr", "ftr")}
TASKS = ("ltr", "evtr", "cmtr", "lvtr", "ftr")
D_IN = 12


def made(groups: dict[str, tuple[str, ...]] = GROUPS, in_dim: int = D_IN, **config: object) -> HoME:
    """A tower of width 6 and 5, as initialised."""
    torch.manual_seed(0)
    tasks = TASKS if groups == GROUPS else tuple(t for members in groups.values() for t in members)
    sizes = {"meta_dim": 6, "expert_dim": 5} | config
    return HoME(in_dim, tasks, groups, HoMEConfig(**sizes))


def shaken(**config: object) -> HoME:
    """A tower in evaluation, its gates, norms and statistics away from their initial values."""
    tower = made(**config)
    with torch.no_grad():
        for name, value in itertools.chain(tower.named_parameters(), tower.named_buffers()):
            if value.is_floating_point():
                value.add_(torch.rand_like(value) if "var" in name else torch.randn_like(value) / 2)
    return tower.eval()


def plain(x: Tensor) -> BottomOutput:
    return BottomOutput(dict.fromkeys(TASKS, x), x)


def distinct(x_3BD: Tensor) -> BottomOutput:
    """Inputs of their own for the shared experts, `watch` and `inter`."""
    x, watch, inter = x_3BD
    return BottomOutput(dict.fromkeys(TASKS, x), x, {"watch": watch, "inter": inter})


def seen(tower: HoME, bottom: BottomOutput) -> dict[tuple[str, str], Mixture]:
    """All mixtures of a pass, by layer and reader."""
    mixtures: dict[tuple[str, str], Mixture] = {}

    def probe(mixture: Mixture) -> Mixture:
        mixtures[mixture.layer, mixture.reader] = mixture
        return mixture

    tower(bottom, probe)
    return mixtures


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def rows_of(experts: OwnedExperts, value: Tensor, owner: str) -> Tensor:
    """The part of a stacked parameter that belongs to an owner."""
    per_expert = value.unflatten(0, (sum(experts.count.values()), -1))
    before = list(itertools.takewhile(lambda name: name != owner, experts.count))
    start = sum(experts.count[name] for name in before)
    return per_expert[start : start + experts.count[owner]].flatten(0, 1)


# Parameters.


@pytest.mark.parametrize(
    ("feature_gate", "self_gate", "golden"),
    [(True, True, 80_488), (True, False, 79_321), (False, True, 56_936), (False, False, 55_769)],
)
def test_golden_counts(feature_gate: bool, self_gate: bool, golden: int) -> None:
    """D_in = 128, D = 32, 8 tasks, ranks 16, heads 32-1, without the norm of the gates' input.

    The reference counts feature gates of two pairs of matrices; ours have one, f(d, r) = 2 d r:
    2 * 3 * 128 * 16 + 2 * 11 * 32 * 16 = 23,552.
    """
    tower = made(
        {"watch": ("a", "b"), "inter": tuple("cdefgh")},
        128,
        meta_dim=32,
        expert_dim=32,
        feature_gate=feature_gate,
        feature_rank1=16,
        feature_rank2=16,
        self_gate=self_gate,
    )
    heads = 8 * num_parameters(BinaryHead(tower.out_dim, HeadConfig(hidden=(32,))))
    assert num_parameters(tower) - num_parameters(tower.meta_level.gate_norm) + heads == golden


@pytest.mark.parametrize("feature_gate", [True, False])
@pytest.mark.parametrize("self_gate", [True, False])
@pytest.mark.parametrize("counts", [(3, 2, 2, 1, 1), (1, 2, 1, 3, 2)])
def test_count_is_the_formula(
    feature_gate: bool, self_gate: bool, counts: tuple[int, int, int, int, int]
) -> None:
    s1, c1, s2, c2, t2 = counts
    d, d1, d2, r1, r2, c, t = D_IN, 6, 5, 4, 3, 2, 5
    tower = made(
        meta_shared=s1,
        meta_category=c1,
        num_shared=s2,
        num_category=c2,
        num_specific=t2,
        feature_gate=feature_gate,
        feature_rank1=r1,
        feature_rank2=r2,
        self_gate=self_gate,
    )

    def g(i: int, k: int) -> int:
        return (i + 1) * k

    expected = (s1 + c * c1) * (d + 3) * d1 + c * g(d, s1 + c1) + g(d, s1 + c * c1) + 2 * d
    expected += (s2 + c * c2 + t * t2) * (d1 + 3) * d2 + t * g(2 * d1, s2 + c2 + t2)
    expected += feature_gate * (2 * (c + 1) * d * r1 + 2 * (1 + c + t) * d1 * r2)
    expected += self_gate * (c * g(d, c1) + g(d, s1) + t * g(d1, t2))
    assert num_parameters(tower) == expected


@pytest.mark.parametrize(
    ("in_dim", "meta_dim", "ranks"), [(200, 44, (6, 5)), (32, 8, (1, 1)), (3, 1, (1, 1))]
)
def test_default_ranks(in_dim: int, meta_dim: int, ranks: tuple[int, int]) -> None:
    """1 / 32 of the input and 1 / 8 of the meta level, and never none."""
    tower = made(in_dim=in_dim, meta_dim=meta_dim)
    levels = (tower.meta_level, tower.task_level)
    found = {tuple(g.up.shape[0] for g in level.experts.feature_gates) for level in levels}
    assert found == {(ranks[0],) * 3, (ranks[1],) * 8}


# Refusals.


@pytest.mark.parametrize(("option", "width"), [("feature_rank1", D_IN), ("feature_rank2", 6)])
def test_a_rank_is_at_most_the_width_that_it_gates(option: str, width: int) -> None:
    made(**{option: width})
    with pytest.raises(ValueError, match=f"{option} is {width + 1}, above the width {width} "):
        made(**{option: width + 1})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"x": ("a",)}, "task 'b' is in 0 categories"),
        ({"x": ("a", "b"), "y": ("b",)}, "task 'b' is in 2 categories"),
        ({"x": ("a", "b", "c")}, "'c' is in a category but is no task"),
        ({"x": ("a", "b"), "y": ()}, "category 'y' has no task"),
        ({"x": ("a",), "a": ("b",)}, "'a' names two of"),
        ({"shared": ("a", "b")}, "'shared' names two of"),
    ],
)
def test_groups_are_a_partition_with_names_of_their_own(
    groups: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HoME(4, ("a", "b"), groups, HoMEConfig())


# Feature gates.


def test_feature_gate_by_hand() -> None:
    """X B A = 2 * (log 3)/2 = log 3, then -log 3: factors 2 sigmoid = 3/2 and 1/2."""
    gate = FeatureGate(2, 1)
    with torch.no_grad():
        gate.down.copy_(torch.tensor([[1.0], [0.0]]))
        gate.up.copy_(torch.tensor([[3.0, 1 / 3]]).log() / 2)
    assert_close(gate(torch.tensor([[2.0, 2.0]])), torch.tensor([[3.0, 1.0]]))


def test_feature_gate_is_one_at_first_and_learns() -> None:
    torch.manual_seed(0)
    gate, x = FeatureGate(400, 30), torch.randn(8, 400)
    assert torch.equal(gate(x), x)
    assert abs(float(gate.down.detach().var()) * 400 - 1) < 0.05
    gate(x).square().sum().backward()
    assert gate.up.grad is not None
    assert (gate.up.grad.abs().amax(1) > 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_at_first_feature_gates_change_nothing(training: bool) -> None:
    gated, ungated = made(), made(feature_gate=False)
    ungated.load_state_dict({k: v for k, v in gated.state_dict().items() if "feature" not in k})
    x = torch.randn(7, D_IN)
    out = gated.train(training)(plain(x))
    for task, f_t in ungated.train(training)(plain(x)).items():
        assert_close(out[task], f_t, rtol=1e-6, atol=1e-6)


# The equations.


def gate_of(own: OwnedExperts, owner: str) -> FeatureGate:
    gate = own.feature_gates[list(own.count).index(owner)]
    assert isinstance(gate, FeatureGate)
    return gate


def by_equations(tower: HoME, bottom: BottomOutput) -> dict[str, Tensor]:
    """f_t expert by expert and reader by reader, batch norm folded."""

    def experts(level: nn.Module, owner: str, x: Tensor) -> Tensor:
        own = level.experts
        gate, first = gate_of(own, owner), own.experts.first
        weight, bias, scale, shift = (
            rows_of(own, value, owner)
            for value in (first.weight, first.bias, *own.experts.norm.fold())
        )
        y = linear(x * 2 * torch.sigmoid(x @ gate.down @ gate.up), weight, bias)
        return silu(y * scale + shift).unflatten(1, (own.count[owner], -1))

    def total(gate: Tensor, self_gate: Tensor, read: list[Tensor], own: Tensor) -> Tensor:
        self_w = self_gate.sigmoid() if self_gate.shape[1] == 1 else self_gate.softmax(1)
        return torch.einsum("bk,bkd->bd", gate.softmax(1), torch.cat(read, 1)) + torch.einsum(
            "bk,bkd->bd", self_w, own
        )

    meta, task_level = tower.meta_level, tower.task_level
    x = {"shared": bottom.shared} | {c: (bottom.groups or {}).get(c, bottom.shared) for c in GROUPS}
    m = {owner: experts(meta, owner, x[owner]) for owner in x}
    reads = {"shared": list(x)} | {c: ["shared", c] for c in GROUPS}
    z = {}
    for i, reader in enumerate(reads):
        logits = meta.gates(meta.gate_norm(x[reader])).split(
            [sum(m[o].shape[1] for o in owners) for owners in reads.values()]
            + [m[reader].shape[1] for reader in reads],
            dim=1,
        )
        read = [m[owner] for owner in reads[reader]]
        z[reader] = total(logits[i], logits[3 + i], read, m[reader])
    f = {}
    for i, (c, tasks) in enumerate(GROUPS.items()):
        gates = task_level.gates[i](torch.cat([z[c], z["shared"]], 1)).chunk(len(tasks), 1)
        self_gates = task_level.self_gates[i](z[c]).chunk(len(tasks), 1)
        for task, gate, self_gate in zip(tasks, gates, self_gates, strict=True):
            e_t = experts(task_level, task, z[c])
            read = [experts(task_level, "shared", z["shared"]), experts(task_level, c, z[c]), e_t]
            f[task] = total(gate, self_gate, read, e_t)
    return f


@pytest.mark.parametrize("specific", [1, 2])
def test_forward_follows_the_equations(specific: int) -> None:
    tower = shaken(num_specific=specific, meta_category=3 - specific)
    for bottom in (plain(torch.randn(9, D_IN)), distinct(torch.randn(3, 9, D_IN))):
        out, expected = tower(bottom), by_equations(tower, bottom)
        assert tuple(out) == TASKS
        for task in TASKS:
            assert_close(out[task], expected[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("self_gate", [True, False])
def test_a_probe_sees_the_same_computation(self_gate: bool) -> None:
    tower, bottom = shaken(self_gate=self_gate), distinct(torch.randn(3, 9, D_IN))
    out, probed = tower(bottom), tower(bottom, lambda mixture: mixture)
    for task in TASKS:
        assert_close(probed[task], out[task], rtol=1e-5, atol=1e-5)


def test_mixtures_name_what_they_read() -> None:
    mixtures = seen(shaken(), plain(torch.randn(4, D_IN)))
    watch, inter = ("watch/0", "watch/1"), ("inter/0", "inter/1")
    shared = ("shared/0", "shared/1", "shared/2")
    assert {key: mixture.experts for key, mixture in mixtures.items()} == {
        ("1", "shared"): shared + watch + inter,
        ("1", "watch"): shared + watch,
        ("1", "inter"): shared + inter,
    } | {
        ("2", task): (*shared[:2], f"{c}/0", f"{task}/0")
        for c, tasks in GROUPS.items()
        for task in tasks
    }
    for (layer, reader), mixture in mixtures.items():
        assert mixture.weights.shape == mixture.outputs.shape[:2] == (4, len(mixture.experts))
        assert_close(mixture.weights.sum(1), torch.ones(4))
        own = torch.tensor([name.startswith(f"{reader}/") for name in mixture.experts])
        assert mixture.self_weights is not None
        assert (mixture.self_weights[:, own] > 0).all()
        assert (mixture.self_weights[:, ~own] == 0).all()
        total = mixture.self_weights.sum(1)
        if layer == "1":
            assert_close(total, torch.ones(4))
        else:
            assert ((total > 0) & (total < 1)).all()
    # The same name is the same expert.
    assert torch.equal(
        mixtures["1", "shared"].outputs[:, 3:5], mixtures["1", "watch"].outputs[:, 3:]
    )


def test_self_gate_over_one_expert_is_a_sigmoid_that_learns() -> None:
    tower, x = made(), torch.randn(4, D_IN)
    with torch.no_grad():
        for gate in tower.task_level.self_gates:
            gate.weight.zero_()
            gate.bias.copy_(torch.full_like(gate.bias, 3.0).log())
    own = seen(tower, plain(x))["2", "ltr"].self_weights
    assert own is not None
    assert_close(own[:, -1], torch.full((4,), 0.75))
    tower(plain(x))["ltr"].square().sum().backward()
    assert tower.task_level.self_gates[INTER].bias.grad[0] != 0


def test_a_probe_may_replace_a_mixture() -> None:
    tower, x = made(), torch.randn(4, D_IN)

    def silence(mixture: Mixture) -> Mixture:
        if mixture.reader != "ltr":
            return mixture
        zero = torch.zeros_like(mixture.weights)
        return Mixture(mixture.layer, "ltr", mixture.experts, zero, mixture.outputs)

    out, before = tower.eval()(plain(x), silence), tower(plain(x))
    assert (out["ltr"] == 0).all()
    assert_close(out["evtr"], before["evtr"])


def test_meta_gates_are_blind_to_scale_and_shift_of_the_input() -> None:
    tower, x = shaken(), torch.randn(4, D_IN)
    plainly, scaled = seen(tower, plain(x)), seen(tower, plain(100 * x + 7))
    for reader in ("shared", *GROUPS):
        assert_close(
            scaled["1", reader].weights, plainly["1", reader].weights, rtol=1e-3, atol=1e-3
        )


# The hierarchy.


def learns(*grads: Tensor | None) -> list[bool]:
    return [grad is not None and bool(grad.abs().max() > 0) for grad in grads]


def test_gradients_of_one_task_stay_in_its_branch() -> None:
    """A loss on evtr reaches the inter category's meta experts, through z_shared, and no more."""
    tower, reached = shaken(), {"shared", "watch", "evtr"}
    tower.train()(plain(torch.randn(16, D_IN)))["evtr"].square().sum().backward()
    for level, owners in (
        (tower.meta_level, {"shared", "watch", "inter"}),
        (tower.task_level, reached),
    ):
        own = level.experts
        for owner in own.count:
            gate, layer = gate_of(own, owner), own.experts
            parts = [
                rows_of(own, p.grad, owner)
                for p in (layer.first.weight, layer.norm.weight, layer.norm.bias)
            ]
            assert learns(*parts, gate.down.grad, gate.up.grad) == [owner in owners] * 5, owner
    meta = tower.meta_level
    for reader, grad in zip(
        meta.readers.columns, meta.gates.weight.grad.split(meta.readers.widths), strict=True
    ):
        assert learns(grad) == [reader in reached], reader
    for gates in (tower.task_level.gates, tower.task_level.self_gates):
        assert learns(*gates[WATCH].weight.grad.chunk(2)) == [True, False]
        assert learns(gates[INTER].weight.grad) == [False]


def test_a_category_gate_moves_its_own_tasks_only() -> None:
    tower, x = shaken(), torch.randn(8, D_IN)
    before, meta = tower(plain(x)), tower.meta_level
    with torch.no_grad():
        for reader, rows in zip(
            meta.readers.columns, meta.gates.weight.split(meta.readers.widths), strict=True
        ):
            if reader == "inter":
                rows.add_(torch.randn_like(rows))
    after = tower(plain(x))
    for task in TASKS:
        assert torch.equal(after[task], before[task]) == (task in GROUPS["watch"]), task


def test_one_category_with_the_gate_of_the_shared_meta_experts_is_no_hierarchy() -> None:
    """Both read all meta experts: with equal gates z_c is z_shared."""
    tower = made({"all": ("a", "b")}, self_gate=False)
    gates, x = tower.meta_level.gates, torch.randn(4, D_IN)
    with torch.no_grad():
        for parameter in (gates.weight, gates.bias):
            shared, of_all = parameter.chunk(2)
            of_all.copy_(shared)
    z = tower.meta_level(BottomOutput({"a": x, "b": x}, x), None)
    assert_close(z["all"], z["shared"])
    out = tower(BottomOutput({"a": x, "b": x}, x))
    assert not torch.allclose(out["a"], out["b"])


# Serving and precision.


def test_rows_do_not_see_each_other_in_evaluation() -> None:
    tower, x = shaken(), torch.randn(10, D_IN)
    order = torch.randperm(10)
    whole, permuted = tower(plain(x)), tower(plain(x[order]))
    halves = [tower(plain(part)) for part in x.split([3, 7])]
    for task in TASKS:
        assert_close(permuted[task], whole[task][order], rtol=1e-6, atol=1e-6)
        parts = torch.cat([half[task] for half in halves])
        assert_close(parts, whole[task], rtol=1e-6, atol=1e-6)


class Affine(nn.Module):
    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.scale, self.shift = norm.fold()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def test_folded_batch_norm_equals_evaluation() -> None:
    tower, x = made(), 3 * torch.randn(64, D_IN) + 1
    for _ in range(3):
        tower(plain(x))
    folded, count = copy.deepcopy(tower.eval()), 0
    for module in folded.modules():
        if isinstance(module, Experts):
            module.norm = Affine(module.norm)
            count += 1
    assert count == 2
    out, expected = folded(plain(x)), tower(plain(x))
    for task in TASKS:
        assert_close(out[task], expected[task], rtol=1e-5, atol=1e-5)


def test_bf16_autocast_is_close_to_fp32() -> None:
    tower, x = made(in_dim=32, meta_dim=16, expert_dim=8), torch.randn(256, 32)
    tower(plain(x))
    exact = tower.eval()(plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = tower(plain(x))
    for task in TASKS:
        assert_close(rounded[task].float(), exact[task], rtol=0.05, atol=0.05)
        assert float(exact[task].detach().std()) > 0.1
