import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.models.bottoms.concat import ConcatBottom
from recsys_mtl.spec.model_config import ConcatBottomConfig
from tests.batches.encoded import make_batch, make_layout

# Bags user_id .. saved, then the read-outs of clicks (video: mean and attention; genre: mean)
# and buys (video: mean), then two numbers; every vector is 4 wide.
WIDTH = (6 + 4) * 4 + 2


def embedded(rows: int = 3) -> Embedded:
    return Embeddings(make_layout(), seed=5)(make_batch(rows))


def bottom(token_dim: int | None = None, **config: object) -> ConcatBottom:
    torch.manual_seed(0)
    return ConcatBottom(make_layout(), ConcatBottomConfig(**config), token_dim)


def test_input_is_bags_then_read_outs_then_numbers() -> None:
    inputs, layer = embedded(), bottom()
    v = layer(inputs).shared
    assert layer.out_dim == WIDTH == v.shape[1]
    assert_close(v[:, :24], torch.cat(list(inputs.bags.values()), 1))
    clicks, buys = inputs.sequences["clicks"], inputs.sequences["buys"]
    video = clicks.fields["clicks__video"]
    weights = layer.attention["clicks__video"](inputs.bags["video_id"], video, clicks.mask)
    expected = [
        mean(clicks, "clicks__video"),
        (weights[:, :, None] * video).sum(1),
        mean(clicks, "clicks__genre"),
        mean(buys, "buys__video"),
    ]
    assert_close(v[:, 24:40], torch.cat(expected, 1))
    assert_close(v[:, 40:], inputs.dense)


def mean(events: EmbeddedSequence, field: str) -> Tensor:
    return torch.stack(
        [
            e[m].mean(0) if m.any() else torch.zeros(4)
            for e, m in zip(events.fields[field], events.mask, strict=True)
        ]
    )


def test_mean_by_hand() -> None:
    """Events 1 and 3 after a pad; an empty row is exactly 0."""
    layout = make_layout()
    inputs = embedded(2)
    events = EmbeddedSequence(
        {"buys__video": torch.tensor([[[0.0], [1], [3]], [[0], [0], [0]]]).expand(2, 3, 4)},
        torch.tensor([[False, True, True], [False, False, False]]),
    )
    sequences = {**inputs.sequences, "buys": events}
    v = ConcatBottom(layout, ConcatBottomConfig())(
        Embedded(inputs.bags, inputs.dense, sequences)
    ).shared
    assert v[:, 36:40].tolist() == [[2.0] * 4, [0.0] * 4]


def test_all_tasks_share_one_tensor() -> None:
    out = bottom()(embedded())
    assert out.task.keys() == {"click", "buy"}
    assert all(x is out.shared for x in out.task.values())


def test_tokens_are_the_parts_of_the_input_then_the_numbers() -> None:
    inputs, layer = embedded(), bottom(token_dim=4)
    out = layer(inputs)
    assert out.tokens is not None
    assert out.tokens.shape == (3, layer.num_tokens, 4) == (3, 12, 4)
    assert torch.equal(out.tokens[:, 4], inputs.bags["video_id"])
    assert torch.equal(out.tokens[:, :10].flatten(1), out.shared[:, :40])
    weight, bias = layer.tokens.number_weight, layer.tokens.number_bias
    assert_close(out.tokens[:, 10:], inputs.dense[:, :, None] * weight + bias)
    assert bottom()(inputs).tokens is None
    assert not any("tokens" in name for name in bottom().state_dict())


def test_vectors_of_another_width_are_projected() -> None:
    """Topics are 8 wide, the rest 4; two bags read topics."""
    layout = make_layout(topic_dim=8)
    inputs = Embeddings(layout, seed=5)(make_batch(3, layout=layout))
    layer = ConcatBottom(layout, ConcatBottomConfig(), token_dim=4)
    out = layer(inputs)
    assert out.shared.shape[1] == WIDTH + 2 * 4
    assert out.tokens is not None
    projection = layer.tokens.projections["8"]
    topics = torch.stack([inputs.bags["liked_topics"], inputs.bags["topic"]], dim=1)
    assert_close(out.tokens[:, [1, 3]], projection(topics))
    assert torch.equal(out.tokens[:, 2], inputs.bags["hour"])


def test_dropout_drops_the_same_units_of_tokens_and_input() -> None:
    out = bottom(token_dim=4, dropout=0.5)(embedded())
    assert out.tokens is not None
    assert (out.shared[:, :40] == 0).float().mean() > 0.25
    assert torch.equal(out.tokens[:, :10].flatten(1), out.shared[:, :40])


@pytest.mark.parametrize(
    ("pooling", "width", "attends"),
    [
        (("mean",), WIDTH - 4, set()),
        (("attention",), WIDTH - 4, {"clicks__video"}),
        (("mean", "attention"), WIDTH, {"clicks__video"}),
    ],
)
def test_a_field_without_a_target_is_averaged(
    pooling: tuple[str, ...], width: int, attends: set[str]
) -> None:
    layer = bottom(sequence_pooling=pooling)
    assert layer.out_dim == width == layer(embedded()).shared.shape[1]
    assert set(layer.attention) == attends


def test_dropout_is_off_in_eval() -> None:
    layer, inputs = bottom(dropout=0.5), embedded()
    v = layer(inputs).shared
    assert (v == 0).float().mean() > 0.25
    layer.eval()
    assert torch.equal(layer(inputs).shared, bottom()(inputs).shared)
