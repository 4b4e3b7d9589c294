from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, scaled_dot_product_attention
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Mixture
from recsys_mtl.models.towers.apem import (
    Apem,
    Excitation,
    InducedSetAttention,
    SetAttention,
    attend,
)
from recsys_mtl.spec.model_config import ApemConfig, HeadConfig

TASKS = ("a", "b", "c")
SMALL = {"dim": 8, "groups": 2, "heads": 2, "inducing": 4, "squeeze": 3, "indicators": 4}


def made(num_tokens: int = 5, tasks: tuple[str, ...] = TASKS, **config: int) -> Apem:
    torch.manual_seed(0)
    return Apem(num_tokens, tasks, ApemConfig(**(SMALL | config)))


def inputs(tokens: Tensor, tasks: tuple[str, ...] = TASKS) -> BottomOutput:
    x = tokens.flatten(1)
    return BottomOutput(dict.fromkeys(tasks, x), x, tokens=tokens)


def shake(module: nn.Module, scale: float = 0.5) -> None:
    """Leave no parameter at a special initial value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def macs_per_row(tower: Apem, num_tokens: int, dim: int) -> int:
    """Counted in matrix products; what does not depend on the rows cancels."""

    def flops(rows: int) -> int:
        counter = FlopCounterMode(display=False)
        with counter:
            tower(inputs(torch.randn(rows, num_tokens, dim), tower.tasks))
        return counter.get_total_flops()

    return (flops(3) - flops(2)) // 2


def test_golden_count() -> None:
    """F = 12, d = 8, T = 3, G = 2, L = 1, m = 4, r = 3, S = 4, heads 64-32-1: 15,547."""
    tower = made(12)
    head = BinaryHead(tower.out_dim, HeadConfig(hidden=(64, 32)))
    assert num_parameters(tower) + 3 * num_parameters(head) == 15_547


SIZES = [(12, 8, 2, 1, 4), (5, 4, 3, 2, 2), (2, 6, 1, 1, 3)]


@pytest.mark.parametrize(("f", "d", "g", "blocks", "m"), SIZES)
def test_count_formula(f: int, d: int, g: int, blocks: int, m: int) -> None:
    tower = made(f, dim=d, groups=g, blocks=blocks, inducing=m, indicators=3)
    mab, k = 4 * (d * d + d) + 4 * d, max(1, f // 3)
    groups = g * (blocks * (m * d + 2 * mab) + 2 * f * k + k + f + d)
    assert num_parameters(tower) == f * d + groups + 3 * 3 * d + f * d * d + d + mab


@pytest.mark.parametrize(("f", "d", "g", "blocks", "m"), SIZES)
def test_mac_formula(f: int, d: int, g: int, blocks: int, m: int) -> None:
    tower = made(f, dim=d, groups=g, blocks=blocks, inducing=m, indicators=2)
    k, queries, n, h = max(1, f // 3), 3 * 2, g * f, 2
    groups = g * (blocks * ((4 * f + 3 * m) * d**2 + 4 * h * m * f * d) + 2 * f * k + f * d)
    selector = f * d**2 + 2 * (n + queries) * d**2 + 2 * h * queries * n * d
    assert macs_per_row(tower, f, d) == groups + selector


@pytest.mark.parametrize(("num_queries", "num_keys"), [(3, 7), (7, 3), (4, 4), (1, 1)])
def test_attend_is_multi_head_attention(num_queries: int, num_keys: int) -> None:
    q = torch.randn(2, num_queries, 6, dtype=torch.float64)
    k, v = torch.randn(2, 2, num_keys, 6, dtype=torch.float64)
    out, weights = attend(q, k, v, heads=3)
    qh, kh, vh = (x.unflatten(2, (3, 2)).transpose(1, 2) for x in (q, k, v))
    expected = scaled_dot_product_attention(qh, kh, vh)
    assert_close(out, expected.transpose(1, 2).flatten(2))
    assert_close(weights @ vh, expected)
    assert_close(weights.sum(3), torch.ones(2, 3, num_queries, dtype=torch.float64))


@pytest.mark.parametrize("num_queries", [3, 8])
def test_groups_are_separate_attention_blocks(num_queries: int) -> None:
    """Each group by the plain equations, with its own weights."""
    torch.manual_seed(0)
    layer = SetAttention(2, 4, 2)
    shake(layer)
    queries, keys = torch.randn(2, 3, num_queries, 4), torch.randn(2, 3, 5, 4)
    out, _ = layer(queries, keys)
    for g in range(2):
        (w_q, b_q), (w_kv, b_kv), (w_o, b_o) = (
            (part.weight[g], part.bias[g]) for part in (layer.query, layer.key_value, layer.outer)
        )
        norms = [
            {"weight": scale[g].flatten(), "bias": shift[g].flatten()}
            for scale, shift in zip(layer.scales, layer.shifts, strict=True)
        ]
        q = queries[g] @ w_q + b_q
        k, v = (keys[g] @ w_kv + b_kv).split(4, dim=2)
        heads = [
            torch.softmax(q[..., i] @ k[..., i].mT / 2**0.5, dim=2) @ v[..., i]
            for i in (slice(0, 2), slice(2, 4))
        ]
        o = layer_norm(q + torch.cat(heads, 2), (4,), **norms[0])
        assert_close(out[g], layer_norm(o + relu(o @ w_o + b_o), (4,), **norms[1]))


def test_one_query_for_all_rows_is_that_query_in_every_row() -> None:
    torch.manual_seed(0)
    layer, query, keys = SetAttention(2, 4, 2), torch.randn(2, 1, 3, 4), torch.randn(2, 5, 6, 4)
    assert_close(layer(query, keys)[0], layer(query.expand(2, 5, 3, 4), keys)[0])


def test_set_attention_knows_no_order_of_fields() -> None:
    torch.manual_seed(0)
    block = InducedSetAttention(ApemConfig(**SMALL))
    shake(block)
    x, order = torch.randn(2, 4, 6, 8), torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(block(x[:, :, order]), block(x)[:, :, order], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(block(x)[0], block(x[[1, 0]])[1], atol=0.1)


def test_excitation_is_one_at_first_and_stays_between_0_and_2() -> None:
    layer, x = Excitation(5, ApemConfig(**SMALL)), torch.randn(2, 6, 5, 8)
    assert torch.equal(layer(x), torch.ones(2, 6, 5, 1))
    shake(layer, 3)
    a = layer(x)
    assert 0 <= a.min() < 0.5
    assert 1.5 < a.max() <= 2


def test_excitation_sees_layer_normed_fields() -> None:
    """Their mean is 0, so that a squeeze by the mean would be blind; ours trains from step 1."""
    torch.manual_seed(0)
    layer = Excitation(5, ApemConfig(**SMALL))
    x = layer_norm(torch.randn(2, 6, 5, 8), (8,))
    seen: list[Tensor] = []
    layer.inner.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    (layer(x) * torch.randn(2, 6, 5, 1)).sum().backward()
    assert seen[0].std() > 0.3
    assert layer.outer.weight.grad is not None
    assert layer.outer.weight.grad.abs().sum() > 0


def selected_from(tower: Apem, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of the selector."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = tower.selector.register_forward_pre_hook(lambda _, args: seen.append(args))
    tower(inputs(tokens))
    handle.remove()
    return seen[0]


def test_selector_reads_fields_plus_their_interactions_group_by_group() -> None:
    tower, tokens = made(blocks=2), torch.randn(4, 5, 8)
    with torch.no_grad():
        tower.field_vectors.normal_()
    e = tokens + tower.field_vectors
    x = tower.blocks[1](tower.blocks[0](e.expand(2, -1, -1, -1)))
    _, keys = selected_from(tower, tokens)
    assert_close(keys[0, :, :5], e + x[0])
    assert_close(keys[0, :, 5:], e + x[1])
    with torch.no_grad():
        tower.excitation.outer.bias.fill_(-100)
    _, keys = selected_from(tower, tokens)
    assert_close(keys[0], torch.cat([e, e], 1))


def test_indicators_adapt_to_the_row_once_the_adapter_is_trained() -> None:
    tower, tokens = made(), torch.randn(4, 5, 8)
    plain = tower.indicators.flatten(0, 1)
    queries, _ = selected_from(tower, tokens)
    assert torch.equal(queries[0], plain.expand(4, -1, -1))
    shake(tower.adapter)
    queries, _ = selected_from(tower, tokens)
    c = torch.tanh(tower.adapter(tokens.flatten(1)))
    assert_close(queries[0, 3], plain * (1 + c[3]))
    assert not torch.allclose(queries[0, 0], queries[0, 3], atol=0.1)


def test_output_is_the_read_outs_of_the_task() -> None:
    """T = 1 with a task's indicators and all other weights gives that task's output."""
    tower, single, tokens = made(), made(tasks=("b",)), torch.randn(4, 5, 8)
    state = tower.state_dict()
    single.load_state_dict(state | {"indicators": state["indicators"][1:2]})
    out = tower(inputs(tokens))
    assert tuple(out) == TASKS
    assert out["b"].shape == (4, tower.out_dim) == (4, 32)
    assert_close(out["b"], single(inputs(tokens, ("b",)))["b"])


def test_a_task_trains_its_own_indicators_alone() -> None:
    tower = made()
    out = tower(inputs(torch.randn(4, 5, 8)))
    loss = (out["b"] * torch.randn(4, 32)).sum()
    (grad,) = torch.autograd.grad(loss, tower.indicators)
    assert grad[1].abs().min() > 0
    assert not grad[[0, 2]].any()


def test_every_parameter_has_a_gradient() -> None:
    tower = made(blocks=2)
    shake(tower)
    out = torch.cat(list(tower(inputs(torch.randn(4, 5, 8))).values()), 1)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def shown(tower: Apem, tokens: Tensor) -> tuple[dict[str, Tensor], list[Mixture]]:
    mixtures: list[Mixture] = []

    def probe(mixture: Mixture) -> Mixture:
        mixtures.append(mixture)
        return Mixture("1", "a", (), mixture.weights * 0, mixture.outputs * 0)

    return tower(inputs(tokens), probe), mixtures


def test_probe_sees_what_each_task_selects_and_changes_nothing() -> None:
    tower, tokens = made(), torch.randn(6, 5, 8)
    out, mixtures = shown(tower, tokens)
    for task, f_t in tower(inputs(tokens)).items():
        assert torch.equal(out[task], f_t)
    assert [(m.layer, m.reader) for m in mixtures] == [("selector", task) for task in TASKS]
    _, keys = selected_from(tower, tokens)
    for mixture in mixtures:
        assert mixture.experts == tuple(f"field/{n}" for n in range(10))
        assert_close(mixture.weights.sum(1), torch.ones(6))
        assert_close(mixture.outputs, keys[0])


def test_probe_sees_the_mean_over_heads_and_indicators() -> None:
    tower, tokens = made(), torch.randn(6, 5, 8)
    _, mixtures = shown(tower, tokens)
    queries, keys = selected_from(tower, tokens)
    _, weights = tower.selector(queries, keys)
    assert_close(mixtures[1].weights, weights[:, :, 4:8].mean((1, 2)))


def test_tasks_attend_apart_at_first() -> None:
    """Narrow indicators, of 0.02, would make all tasks select alike: cosines of 1."""
    tower, tokens = made(30, dim=16), torch.randn(64, 30, 16)
    assert most_alike(tower, tokens) < 0.998
    with torch.no_grad():
        tower.indicators *= 0.02 / 0.5
    assert most_alike(tower, tokens) > 0.9999


def most_alike(tower: Apem, tokens: Tensor) -> float:
    """Largest cosine of two tasks' attention, mean over rows."""
    _, mixtures = shown(tower, tokens)
    w = nn.functional.normalize(torch.stack([m.weights for m in mixtures]), dim=2)
    cosines = torch.einsum("tbn,ubn->tu", w, w) / len(tokens)
    return cosines[~torch.eye(len(mixtures), dtype=torch.bool)].max().item()


@pytest.mark.parametrize("change", [lambda x: x + torch.randn_like(x), torch.zeros_like])
def test_rows_do_not_see_each_other(change: Callable[[Tensor], Tensor]) -> None:
    tower, tokens = made(), torch.randn(4, 5, 8)
    shake(tower)
    other = torch.cat([tokens[:1], change(tokens[1:])])
    before, after = tower(inputs(tokens)), tower(inputs(other))
    for task in TASKS:
        assert_close(after[task][0], before[task][0])
        assert not torch.allclose(after[task][1], before[task][1], atol=1e-3)


def test_bfloat16_agrees() -> None:
    tower, tokens = made(), torch.randn(16, 5, 8)
    full = tower(inputs(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        half = tower(inputs(tokens))
    for task in TASKS:
        assert_close(half[task].float(), full[task], rtol=0, atol=0.1)
