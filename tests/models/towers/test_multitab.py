import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.towers.multitab import MultiTab
from recsys_mtl.spec.model_config import HeadConfig, MultiTabConfig

TASKS = ("a", "b", "c")


def made(num_tokens: int = 5, tasks: tuple[str, ...] = TASKS, **config: float) -> MultiTab:
    torch.manual_seed(0)
    return MultiTab(num_tokens, tasks, MultiTabConfig(**({"dim": 8, "ff": 12} | config)))


def shaken(tower: MultiTab) -> MultiTab:
    """Away from the small initial weights, under which differences would hide."""
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return tower


def inputs(tokens: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    x = tokens.flatten(1)
    return BottomOutput(dict.fromkeys(tasks, x), x, tokens=tokens)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_golden_count() -> None:
    """75 numbers, T = 2, e = 8, f = 256, heads 64-1: 7,194 where task tokens have a bias too."""
    tower = made(75, ("a", "b"), ff=256)
    head = BinaryHead(tower.out_dim, HeadConfig(hidden=(64,)))
    numbers, biases = 75 * 2 * 8, 2 * 8
    assert num_parameters(tower) + 2 * num_parameters(head) + numbers + biases == 7_194


@pytest.mark.parametrize(("num_tokens", "e", "f"), [(5, 8, 12), (30, 16, 256)])
def test_formulas(num_tokens: int, e: int, f: int) -> None:
    tower = made(num_tokens, dim=e, ff=f).eval()
    expected = 3 * e + 4 * e * e + 4 * e + 2 * e * f + f + e + 4 * e
    assert num_parameters(tower) == expected

    # With a probe, since the fused attention of the other path is not counted.
    counter = FlopCounterMode(display=False)
    with counter:
        tower(inputs(torch.randn(2, num_tokens, e)), probe=lambda mixture: mixture)
    n = 3 + num_tokens
    macs = 2 * n * e**2 + 2 * 3 * e**2 + 2 * 3 * n * e + 2 * 3 * e * f
    assert counter.get_total_flops() == 2 * 2 * macs


@pytest.mark.parametrize("fields_see_tasks", [True, False])
def test_only_task_rows_are_needed(fields_see_tasks: bool) -> None:
    """The whole block over all n rows, by its equations; task rows are the same either way."""
    tower, tokens = shaken(made()), torch.randn(4, 5, 8)
    x = torch.cat([tower.task_tokens.expand(4, -1, -1), tokens], dim=1)
    z = tower.norm1(x)
    attention = tower.attention
    q, k, v = (
        y.unflatten(2, (4, 2)).transpose(1, 2)
        for y in (z @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=2)
    )
    visible = torch.ones(8, 8, dtype=torch.bool)
    visible[:3, :3] = torch.eye(3)
    visible[3:, :3] = fields_see_tasks
    scores = (q @ k.mT / 2**0.5).masked_fill(~visible, -torch.inf)
    x = x + attention.out_proj((torch.softmax(scores, 3) @ v).transpose(1, 2).flatten(2))
    inner, _, _, outer = tower.mlp
    x = x + outer(gelu(inner(tower.norm2(x))))
    out = tower(inputs(tokens))
    assert tuple(out) == TASKS
    for t, task in enumerate(TASKS):
        assert_close(out[task], x[:, t])


def test_a_task_does_not_see_the_tokens_of_others() -> None:
    tower, tokens = shaken(made()), torch.randn(4, 5, 8)
    before = tower(inputs(tokens))
    with torch.no_grad():
        # Not a constant, which layer norm would cancel.
        tower.task_tokens[1] += torch.linspace(-3, 3, 8).square()
    after = tower(inputs(tokens))
    assert torch.equal(after["a"], before["a"])
    assert torch.equal(after["c"], before["c"])
    assert not torch.allclose(after["b"], before["b"], atol=0.1)


def test_a_task_sees_every_field() -> None:
    tower = shaken(made())
    tokens = torch.randn(4, 5, 8, requires_grad=True)
    for f_t in tower(inputs(tokens)).values():
        (grad,) = torch.autograd.grad((f_t * torch.randn(4, 8)).sum(), tokens, retain_graph=True)
        assert grad.abs().sum(2).min() > 0


def test_rows_do_not_see_each_other() -> None:
    tower, tokens = shaken(made()), torch.randn(4, 5, 8)
    other = torch.cat([tokens[:1], torch.randn(3, 5, 8)])
    before, after = tower(inputs(tokens)), tower(inputs(other))
    for task in TASKS:
        assert_close(after[task][0], before[task][0])
        assert not torch.allclose(after[task][1], before[task][1], atol=1e-3)


def test_fields_have_no_order() -> None:
    tower, tokens = shaken(made()), torch.randn(4, 5, 8)
    before, after = tower(inputs(tokens)), tower(inputs(tokens[:, [4, 2, 0, 1, 3]]))
    for task in TASKS:
        assert_close(after[task], before[task])


def test_initial_weights() -> None:
    tower = made(dim=32, ff=64)
    inner, _, _, outer = tower.mlp
    for layer in (inner, outer, tower.attention.out_proj):
        assert 0.008 < layer.weight.std() < 0.012
        assert not layer.bias.any()
    assert 0.006 < tower.task_tokens.std() < 0.014
    assert_close(
        tower.attention.in_proj_weight.abs().max().item(), (6 / (4 * 32)) ** 0.5, rtol=0.01, atol=0
    )


def test_dropout_is_off_in_eval() -> None:
    tower, tokens = shaken(made(dropout=0.5)), torch.randn(4, 5, 8)
    plain = made()
    plain.load_state_dict(tower.state_dict())
    assert not torch.allclose(tower(inputs(tokens))["a"], plain(inputs(tokens))["a"])
    for task, f_t in tower.eval()(inputs(tokens)).items():
        assert_close(f_t, plain(inputs(tokens))[task])


def test_every_parameter_has_a_gradient() -> None:
    tower = shaken(made())
    out = torch.cat(list(tower(inputs(torch.randn(4, 5, 8))).values()), 1)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_probe_sees_what_each_task_attends_to_and_changes_nothing() -> None:
    tower, tokens = shaken(made(heads=1)), torch.randn(4, 5, 8)
    mixtures: list[Mixture] = []

    def probe(mixture: Mixture) -> Mixture:
        mixtures.append(mixture)
        return Mixture("1", "a", (), mixture.weights * 0, mixture.outputs * 0)

    out = tower(inputs(tokens), probe)
    for task, f_t in tower(inputs(tokens)).items():
        assert_close(out[task], f_t)
    assert [(m.layer, m.reader) for m in mixtures] == [("1", task) for task in TASKS]
    w_q, w_k, _ = tower.attention.in_proj_weight.chunk(3)
    b_q, b_k, _ = tower.attention.in_proj_bias.chunk(3)
    for t, mixture in enumerate(mixtures):
        assert mixture.experts == (f"{TASKS[t]}/0", *(f"field/{n}" for n in range(5)))
        own = tower.task_tokens[t].expand(4, 1, -1)
        z = tower.norm1(torch.cat([own, tokens], dim=1))
        assert_close(mixture.outputs, z)
        scores = (z @ w_k.T + b_k) @ (z[:, 0] @ w_q.T + b_q)[:, :, None] / 8**0.5
        assert_close(mixture.weights, torch.softmax(scores[:, :, 0], dim=1))


def test_bfloat16_agrees() -> None:
    tower, tokens = shaken(made()), torch.randn(16, 5, 8)
    full = tower(inputs(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        half = tower(inputs(tokens))
    for task in TASKS:
        assert_close(half[task].float(), full[task], rtol=0.05, atol=0.2)
