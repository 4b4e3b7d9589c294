import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from recsys_mtl.models.bottoms.conditional import (
    ConditionalTransformer,
    Hypernetwork,
    conditional_norm,
)
from recsys_mtl.spec.model_config import DtrnBottomConfig

DIM = 8


def config(**changed: object) -> DtrnBottomConfig:
    return DtrnBottomConfig(dim=DIM, ff=12, **changed)


def made(**changed: object) -> ConditionalTransformer:
    torch.manual_seed(0)
    return ConditionalTransformer(config(**changed))


def events() -> tuple[Tensor, Tensor]:
    """Rows of 5, 3 and 1 events."""
    torch.manual_seed(1)
    return torch.randn(3, 5, DIM), torch.arange(5) >= 5 - torch.tensor([5, 3, 1])[:, None]


def plain_layers(transformer: ConditionalTransformer, heads: int) -> list[nn.Module]:
    """The library's post-norm layers with the same weights, affine-free norms."""
    layers: list[nn.Module] = []
    for layer in transformer.layers:
        plain = nn.TransformerEncoderLayer(DIM, heads, 12, dropout=0.0, batch_first=True)
        attention = plain.self_attn
        with torch.no_grad():
            attention.in_proj_weight.copy_(layer.query_key_value.weight)
            attention.out_proj.weight.copy_(layer.out.weight)
            attention.in_proj_bias.zero_()
            attention.out_proj.bias.zero_()
        plain.linear1, plain.linear2 = layer.inner, layer.outer
        layers.append(plain)
    return layers


@pytest.mark.parametrize(("layers", "heads"), [(1, 2), (2, 4)])
def test_zero_norms_give_a_plain_post_norm_transformer_for_every_reader(
    layers: int, heads: int
) -> None:
    transformer = made(layers=layers, heads=heads)
    x, mask = events()
    y_BRSD = transformer(x, mask, torch.zeros(3, layers, 4, DIM))
    expected = x
    for plain in plain_layers(transformer, heads):
        expected = plain(expected, src_key_padding_mask=~mask)
    assert y_BRSD.shape == (3, 3, 5, DIM)
    for y in y_BRSD.unbind(1):
        assert_close(y[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_conditional_norm_by_hand() -> None:
    """(1, 3) normalises to -+1; times 1 + (1, -1/2), plus (10, 20): (8, 20.5)."""
    y = conditional_norm(
        torch.tensor([1e3, 3e3]), torch.tensor([1.0, -0.5]), torch.tensor([10.0, 20.0])
    )
    assert_close(y, torch.tensor([8.0, 20.5]))


@pytest.mark.parametrize("layers", [1, 2])
def test_readers_read_side_by_side_as_each_alone(layers: int) -> None:
    transformer = made(layers=layers)
    x, mask = events()
    norms = torch.randn(3, layers, 4, DIM)
    together = transformer(x, mask, norms)
    for r in range(3):
        assert_close(together[:, r : r + 1], transformer(x, mask, norms[r : r + 1]))
    assert not torch.allclose(together[:, 0][mask], together[:, 1][mask], atol=0.1)


def test_each_of_the_four_norm_vectors_and_each_layer_is_used() -> None:
    transformer = made(layers=2)
    x, mask = events()
    norms = torch.zeros(1, 2, 4, DIM, requires_grad=True)
    (transformer(x, mask, norms)[:, 0][mask] * torch.randn(DIM)).sum().backward()
    assert norms.grad is not None
    assert (norms.grad != 0).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_padding_content_reaches_no_event_and_an_empty_row_stays_finite(layers: int) -> None:
    transformer = made(layers=layers)
    x, mask = events()
    mask[2] = False
    norms = torch.randn(2, layers, 4, DIM)
    y, other = (
        transformer(z, mask, norms) for z in (x, x + 5 * torch.randn(3, 5, DIM) * ~mask[:, :, None])
    )
    valid = mask[:, None].expand(y.shape[:3])
    assert_close(y[valid], other[valid])
    assert y.isfinite().all()


def test_hypernetwork_starts_near_zero_with_zero_bias() -> None:
    torch.manual_seed(0)
    network = Hypernetwork(3, 4, DtrnBottomConfig())
    assert not network.outer.bias.any()
    assert network.outer.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network().abs().max() < 0.15


def test_hypernetwork_by_hand() -> None:
    """h = (a, c) = (2, 5); relu(2 + 5 - 4) = 3; outputs 3 w + b in the order layer, vector, d."""
    network = Hypernetwork(
        1, 1, DtrnBottomConfig(dim=1, heads=1, layers=2, task_dim=1, hyper_hidden=1)
    )
    with torch.no_grad():
        network.readers.fill_(2.0)
        network.behaviours.fill_(5.0)
        network.inner.weight.fill_(1.0)
        network.inner.bias.fill_(-4.0)
        network.outer.weight.copy_(torch.arange(8.0)[:, None])
        network.outer.bias.fill_(1.0)
    assert network().flatten(2).tolist() == [[[1, 4, 7, 10, 13, 16, 19, 22]]]
    assert network().shape == (1, 1, 2, 4, 1)


def test_hypernetwork_pairs_reader_and_behaviour() -> None:
    """Equal rows of the tables give equal norms, distinct rows distinct ones."""
    network = Hypernetwork(3, 2, config())
    with torch.no_grad():
        network.readers[2] = network.readers[0]
    norms = network()
    assert torch.equal(norms[2], norms[0])
    assert not torch.equal(norms[1], norms[0])
    assert not torch.equal(norms[0, 0], norms[0, 1])
