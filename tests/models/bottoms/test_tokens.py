import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.testing import assert_close

from recsys_mtl.models.bottoms.tokens import Tokens

WIDTHS = (4, 2, 3, 4, 2)


def made(widths: tuple[int, ...] = WIDTHS, numbers: int = 2) -> tuple[Tokens, list[Tensor], Tensor]:
    torch.manual_seed(0)
    layer = Tokens(widths, numbers, 4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    return layer, [torch.randn(3, width) for width in widths], torch.randn(3, numbers)


def test_each_vector_has_a_projection_of_its_own_unless_it_fits() -> None:
    layer, parts, numbers = made()
    tokens = layer(parts, numbers)
    assert tokens.shape == (3, layer.num, 4) == (3, 7, 4)
    twos, threes = layer.projections["2"], layer.projections["3"]
    for f, (projection, slot) in {1: (twos, 0), 2: (threes, 0), 4: (twos, 1)}.items():
        expected = linear(parts[f], projection.weight[slot].T, projection.bias[slot])
        assert_close(tokens[:, f], expected)
    for f in (0, 3):
        assert torch.equal(tokens[:, f], parts[f])


def test_number_by_hand() -> None:
    """3 w + b with w = (1, 0, 2, -1), b = (0, 1, 0, 0)."""
    layer = Tokens((), 1, 4)
    with torch.no_grad():
        layer.number_weight.copy_(torch.tensor([[1.0, 0, 2, -1]]))
        layer.number_bias.copy_(torch.tensor([[0.0, 1, 0, 0]]))
    assert layer([], torch.tensor([[3.0]])).tolist() == [[[3.0, 1, 6, -3]]]


def test_numbers_have_tokens_of_their_own() -> None:
    layer, parts, numbers = made()
    tokens = layer(parts, numbers)
    for i in range(2):
        expected = numbers[:, i, None] * layer.number_weight[i] + layer.number_bias[i]
        assert_close(tokens[:, 5 + i], expected)


def test_no_numbers() -> None:
    layer, parts, numbers = made(numbers=0)
    assert layer(parts, numbers).shape == (3, 5, 4)


def test_count() -> None:
    """Two projections 2 -> 4, one 3 -> 4, two numbers; nothing for the two that fit."""
    layer, _, _ = made()
    count = sum(p.numel() for p in layer.parameters())
    assert count == 2 * (2 + 1) * 4 + (3 + 1) * 4 + 2 * 2 * 4


def test_a_missing_input_starts_as_a_zero_token() -> None:
    torch.manual_seed(0)
    layer = Tokens(WIDTHS, 2, 4)
    zeros = layer([torch.zeros(1, width) for width in WIDTHS], torch.zeros(1, 2))
    assert not zeros.any()
    ones = layer([torch.ones(1, width) for width in WIDTHS], torch.ones(1, 2))
    assert (ones.abs().amax(2) > 0).all()
    assert layer.number_weight.abs().max() <= 0.05
