from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.models.attention import TargetAttention
from recsys_mtl.models.bottoms import dtrn
from recsys_mtl.models.bottoms.dtrn import DtrnBottom, Interests
from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.spec.feature_spec import BinaryLabel
from recsys_mtl.spec.layout import Bag, Layout, SequenceInput
from recsys_mtl.spec.model_config import DtrnBottomConfig
from tests.batches.encoded import make_batch, make_layout, table

# `make_layout`: six bags of 4, two numbers; clicks with video (target video_id) and genre, 8 wide
# together; buys with video, 4 wide, without a target.
TASKS = ("click", "buy")
BAGS = 6 * 4 + 2


def made(readers: tuple[str, ...] = TASKS, layout: Layout | None = None, **config: object):
    torch.manual_seed(0)
    return DtrnBottom(layout or make_layout(), DtrnBottomConfig(**{"dim": 8, **config}), readers)


def stirred(bottom: DtrnBottom) -> DtrnBottom:
    """With a hypernetwork and a refinement away from their start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in bottom.named_parameters():
            if "outer" in name:
                parameter.normal_(std=0.5)
    return bottom


def embedded(rows: int = 5) -> Embedded:
    """Rows of other scale than the tables start with, so that no part drowns; row 1 is empty."""
    inputs = Embeddings(make_layout(), seed=5)(make_batch(rows))
    sequences = {}
    for name, events in inputs.sequences.items():
        mask = events.mask & (torch.arange(rows) != 1)[:, None]
        fields = {
            f: (30 * e * mask[:, :, None]).detach().requires_grad_()
            for f, e in events.fields.items()
        }
        sequences[name] = EmbeddedSequence(fields, mask)
    bags = {name: (30 * bag).detach().requires_grad_() for name, bag in inputs.bags.items()}
    return Embedded(bags, inputs.dense, sequences)


def with_events(inputs: Embedded, fields: dict[str, Tensor], mask: Tensor) -> Embedded:
    """With other clicks."""
    return replace(inputs, sequences={**inputs.sequences, "clicks": EmbeddedSequence(fields, mask)})


def assert_same(a: BottomOutput, b: BottomOutput, tolerance: float = 1e-5) -> None:
    for task in a.task:
        assert_close(a.task[task], b.task[task], rtol=0, atol=tolerance)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def wide_layout(tasks: int = 3, behaviours: int = 4, dim: int = 32) -> Layout:
    """Events, bags and candidates as wide as the transformer: nothing is projected."""
    return Layout(
        tables={"item": table(9, dim)},
        bags=(Bag("user", "item", "sum", False), Bag("item", "item", "sum", False)),
        num_plain_bags=0,
        dense=("age",),
        sequences=tuple(
            SequenceInput(f"s{m}", "x", 50, {f"s{m}__i": "item"}, {f"s{m}__i": "item"})
            for m in range(behaviours)
        ),
        tasks=tuple(BinaryLabel(name=f"t{i}", column="x") for i in range(tasks)),
    )


@pytest.mark.parametrize(("layers", "golden"), [(1, 19_394), (2, 31_906)])
def test_golden_count(layers: int, golden: int) -> None:
    """Interests for T = 3, M = 4, d = 32.

    The golden figures count one slope and the output's bias in the scorer; ours has a slope for
    each of its 36 units and no bias.
    """
    bottom = made(("t0", "t1", "t2"), wide_layout(), dim=32, layers=layers)
    assert bottom.interests is not None and bottom.refinement is not None
    assert num_parameters(bottom.events) == 0
    assert num_parameters(bottom.interests) == golden - 2 + 36
    width, fields, hidden = 2 * 32 + 1 + 4 * 32, 7, 48
    assert bottom.out_dim == width
    assert num_parameters(bottom.refinement) == 3 * (
        width * hidden + hidden + hidden * fields + fields
    )


def test_projections_count_where_widths_differ() -> None:
    """Clicks are 8 wide and buys 4, the clicks' candidate 4: for d = 8, 4 x 8 twice."""
    bottom = made()
    assert bottom.interests is not None
    assert num_parameters(bottom.events) == 4 * 8
    assert num_parameters(bottom.interests.candidates) == 4 * 8
    assert num_parameters(made(dim=4).events) == 8 * 4


@pytest.mark.parametrize("layers", [1, 2])
def test_macs_are_those_of_the_formula(layers: int) -> None:
    """Against a counter of the products that torch executes; hypernetwork once per step."""
    d, ff, hidden, readers, steps, rows, m = 32, 64, 36, 3, 7, 5, 2
    layout = wide_layout(readers, m)
    bottom = made(layout.task_names, layout, layers=layers, dim=d)
    fields = {s.name: {f: torch.randn(rows, steps, d) for f in s.fields} for s in layout.sequences}
    mask = torch.ones(rows, steps, dtype=torch.bool)
    inputs = Embedded(
        {"user": torch.randn(rows, d), "item": torch.randn(rows, d)},
        torch.randn(rows, 1),
        {name: EmbeddedSequence(f, mask) for name, f in fields.items()},
    )
    a, f = 4 * steps * d**2 + 2 * steps**2 * d, 2 * steps * d * ff
    score = readers * (steps * d * hidden + steps * hidden + steps * d) + 2 * d * hidden + hidden
    interests = a + readers * f + (layers - 1) * readers * (a + f) + score + readers * steps * d
    width, num_fields, h_r = bottom.out_dim, 2 + 1 + m, bottom.out_dim // 4
    per_row = m * interests + readers * (width + num_fields) * h_r
    per_step = readers * m * (2 * 8 * 32 + 4 * 32 * layers * d)
    assert macs(bottom, inputs) == rows * per_row + per_step


def macs(bottom: nn.Module, inputs: Embedded) -> int:
    aten = torch.ops.aten

    def of_attention(q: list[int], k: list[int], v: list[int], *_: object, **__: object) -> int:
        return 2 * q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])

    mapping = {
        aten.mv: lambda a, b, **_: 2 * a[0] * a[1],
        aten.addmv: lambda c, a, b, **_: 2 * a[0] * a[1],
        aten._scaled_dot_product_flash_attention_for_cpu: of_attention,
    }
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        bottom(inputs)
    return counter.get_total_flops() // 2


def test_readers_are_tasks_then_shared_then_categories() -> None:
    inputs = embedded()
    out = stirred(made((*TASKS, "shared", "buy", "watch")))(inputs)
    assert out.task.keys() == set(TASKS)
    assert out.groups is not None and out.groups.keys() == {"buy", "watch"}
    distinct = [*out.task.values(), out.shared, *out.groups.values()]
    for i, x in enumerate(distinct):
        assert x.shape == (5, BAGS + 2 * 8)
        assert not any(torch.allclose(x, y, atol=1e-3) for y in distinct[:i])
    alone = stirred(made())(inputs)
    assert alone.shared is alone.task["click"]
    assert alone.groups is None and alone.tokens is None


def test_input_starts_as_bags_numbers_and_interests() -> None:
    """Refinement is the identity at first."""
    inputs, bottom = embedded(), made()
    out, bare = bottom(inputs), made(refinement=False)
    bare.load_state_dict({k: v for k, v in bottom.state_dict().items() if "refinement" not in k})
    assert_same(out, bare(inputs), 0.0)
    expected = torch.cat([*inputs.bags.values(), inputs.dense], 1)
    assert torch.equal(out.task["buy"][:, :BAGS], expected)


def test_interest_is_attention_to_what_the_transformer_makes() -> None:
    """Each part by itself, all rows at full length and one reader at a time."""
    inputs, bottom = embedded(), stirred(made(refinement=False))
    interests = bottom.interests
    assert interests is not None and interests.hypernetwork is not None
    norms = interests.hypernetwork()
    clicks, buys = inputs.sequences["clicks"], inputs.sequences["buys"]
    candidate = interests.candidates[0](inputs.bags["video_id"])
    for r, task in enumerate(TASKS):
        got = bottom(inputs).task[task][:, BAGS:]
        y = events_of(bottom, 0, clicks, norms[r : r + 1, 0])
        weights = interests.attention(candidate, y, clicks.mask)
        assert_close(got[:, :8], (weights[:, :, None] * y).sum(1), rtol=1e-5, atol=1e-5)
        y = events_of(bottom, 1, buys, norms[r : r + 1, 1])
        counts = buys.mask.sum(1, keepdim=True).clamp(min=1)
        mean = (y * buys.mask[:, :, None]).sum(1) / counts
        assert_close(got[:, 8:], mean, rtol=1e-5, atol=1e-5)


def events_of(bottom: DtrnBottom, m: int, events: EmbeddedSequence, norms: Tensor) -> Tensor:
    assert bottom.interests is not None
    steps = events.mask.shape[1]
    distance = torch.arange(steps - 1, -1, -1)
    x = bottom.events[m](events) + bottom.interests.positions[distance]
    return bottom.interests.transformer(x, events.mask, norms)[:, 0]


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, bottom = embedded(9), stirred(made())
    whole = bottom(inputs)
    monkeypatch.setattr(dtrn, "_CHUNK_ELEMENTS", 2 * 2 * 6 * 8)
    assert_same(whole, bottom(inputs))


def test_identical_reader_embeddings_give_identical_interests() -> None:
    inputs, bottom = embedded(), stirred(made(refinement=False))
    out = bottom(inputs)
    assert (out.task["click"] - out.task["buy"]).abs().max() > 0.1
    with torch.no_grad():
        bottom.interests.hypernetwork.readers[1] = bottom.interests.hypernetwork.readers[0]
    out = bottom(inputs)
    assert torch.equal(out.task["click"], out.task["buy"])


def test_rows_without_events_have_no_interest_and_finite_gradients() -> None:
    inputs, bottom = embedded(), stirred(made())
    out = bottom(inputs)
    for x_t in out.task.values():
        assert not x_t[1, BAGS:].any()
        assert x_t[0, BAGS:].any()
    sum(x.square().sum() for x in out.task.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in bottom.parameters())
    for bag in inputs.bags.values():
        assert bag.grad is not None and bag.grad.isfinite().all()


def test_a_batch_without_events() -> None:
    inputs, bottom = embedded(2), stirred(made())
    empty = {
        name: EmbeddedSequence({f: torch.zeros(2, 1, 4) for f in e.fields}, torch.zeros(2, 1) > 0)
        for name, e in inputs.sequences.items()
    }
    x = bottom(replace(inputs, sequences=empty)).task["click"]
    assert not x[:, BAGS:].any()


@pytest.mark.parametrize("config", [{}, {"layers": 2}, {"interests": False}])
def test_neither_padding_content_nor_padding_width_matters(config: dict[str, object]) -> None:
    inputs, bottom = embedded(), stirred(made(**config))
    events = inputs.sequences["clicks"]
    pad = ~events.mask[:, :, None]
    dirty = {f: e + 100 * torch.randn_like(e) * pad for f, e in events.fields.items()}
    assert_same(bottom(inputs), bottom(with_events(inputs, dirty, events.mask)))
    assert events.mask.shape[1] < 6
    wider = {f: nn.functional.pad(e, (0, 0, 1, 0)) for f, e in events.fields.items()}
    mask = nn.functional.pad(events.mask, (1, 0))
    assert_same(bottom(inputs), bottom(with_events(inputs, wider, mask)))


def test_the_newest_event_counts_and_order_too() -> None:
    """Only rows with events follow their newest one; the oldest in place of it differs."""
    inputs, bottom = embedded(), stirred(made())
    events = inputs.sequences["clicks"]
    newest = {f: e.detach().clone() for f, e in events.fields.items()}
    for e in newest.values():
        e[:, -1] += 3 * events.mask[:, -1:]
    changed = bottom(with_events(inputs, newest, events.mask)).task["buy"]
    moved = (changed - bottom(inputs).task["buy"]).abs().amax(1) > 1e-3
    assert moved.tolist() == events.mask[:, -1].tolist()
    full = torch.ones(5, 4, dtype=torch.bool)
    torch.manual_seed(3)
    fields = {f: torch.randn(5, 4, 4) for f in events.fields}
    turned = {f: e.flip(1) for f, e in fields.items()}
    a, b = (bottom(with_events(inputs, f, full)).task["buy"] for f in (fields, turned))
    assert (a - b).abs().max() > 1e-3


def test_without_interests_events_are_averaged_for_all() -> None:
    """Events are projected, no transformer; without refinement, too, there is one tensor."""
    inputs, bottom = embedded(), made(interests=False, refinement=False)
    out = bottom(inputs)
    assert out.task["click"] is out.task["buy"] is out.shared
    clicks = inputs.sequences["clicks"]
    counts = clicks.mask.sum(1, keepdim=True).clamp(min=1)
    mean = torch.cat([e.sum(1) / counts for e in clicks.fields.values()], 1)
    assert_close(out.shared[:, BAGS : BAGS + 8], mean)
    assert num_parameters(bottom) == 4 * 8
    refined = stirred(made(interests=False))(inputs)
    assert (refined.task["click"] - refined.task["buy"]).abs().max() > 0.1


def test_without_sequences_only_refinement_is_left() -> None:
    layout = replace(make_layout(), sequences=())
    inputs = replace(embedded(), sequences={})
    bottom = stirred(made(layout=layout))
    out = bottom(inputs)
    assert {name.split(".")[0] for name, _ in bottom.named_parameters()} == {"refinement"}
    assert bottom.out_dim == BAGS == out.shared.shape[1]
    assert not torch.allclose(out.task["click"], out.task["buy"])
    bottom.fold()
    assert_same(out, bottom(inputs), 0.0)


def test_refinement_by_hand_repeats_a_weight_over_its_field() -> None:
    """Fields of width 2, 1 and 1: weights 2 sigmoid(log 3) = 3/2, 2 sigmoid(0) = 1, and 1/2."""
    refinement = dtrn.Refinement(2, [2, 1, 1])
    log3 = torch.tensor(3.0).log()
    with torch.no_grad():
        refinement.outer.bias[1] = torch.stack([log3, torch.tensor(0.0), -log3])
    x = torch.tensor([[[2.0, 4, 6, 8], [2, 4, 6, 8]]])
    assert_close(refinement(x), torch.tensor([[[2.0, 4, 6, 8], [3, 6, 6, 4]]]))


def test_weights_of_fields_stay_between_0_and_2_and_follow_the_input() -> None:
    refinement = stirred(dtrn.Refinement(1, [1, 1, 1, 1]))
    x = 1 + torch.rand(50, 1, 4)
    weights = refinement(x) / x
    assert ((weights > 0) & (weights < 2)).all()
    assert weights.std(0).max() > 0.01


def test_loss_on_one_task_leaves_the_other_alone() -> None:
    bottom = stirred(made())
    bottom(embedded()).task["click"].square().sum().backward()
    assert bottom.interests.hypernetwork.readers.grad[0].any()
    assert not bottom.interests.hypernetwork.readers.grad[1].any()
    for parameter in bottom.refinement.parameters():
        assert parameter.grad[0].any()
        assert not parameter.grad[1].any()


@pytest.mark.parametrize("layers", [1, 2])
def test_folded_output_equals_live_before_and_after_a_step(layers: int) -> None:
    inputs, live = embedded(), stirred(made(layers=layers))
    optimizer = torch.optim.SGD(live.parameters(), 0.05)
    before = live(inputs).task["buy"]
    for _ in range(2):
        folded = made(layers=layers)
        folded.load_state_dict(live.state_dict())
        folded.fold()
        assert_same(live(inputs), folded(inputs), 1e-6)
        optimizer.zero_grad()
        sum(x.square().mean() for x in live(inputs).task.values()).backward()
        optimizer.step()
    assert (live(inputs).task["buy"] - before).abs().max() > 1e-3


def test_state_of_a_folded_bottom_loads_into_a_new_one() -> None:
    inputs, bottom = embedded(), stirred(made())
    live = bottom(inputs)
    bottom.fold()
    bottom.fold()
    state = bottom.state_dict()
    assert not any("hypernetwork" in name for name in state)
    assert state["interests.norms"].shape == (2, 2, 1, 4, 8)
    torch.manual_seed(9)
    other = DtrnBottom(make_layout(), DtrnBottomConfig(dim=8), TASKS)
    other.fold()
    other.load_state_dict(state)
    assert_same(other(inputs), live, 1e-6)


def test_dropout_is_off_in_eval() -> None:
    inputs, bottom = embedded(), made(dropout=0.5)
    v = bottom(inputs).task["click"][:, : BAGS - 2]
    assert (v == 0).float().mean() > 0.25
    assert_same(bottom.eval()(inputs), made()(inputs), 0.0)


def test_no_scorer_without_a_target() -> None:
    layout = make_layout()
    untargeted = replace(layout, sequences=tuple(replace(s, targets={}) for s in layout.sequences))
    assert not any(isinstance(m, TargetAttention) for m in made(layout=untargeted).modules())
    assert isinstance(made().interests, Interests)
