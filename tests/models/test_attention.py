import pytest
import torch
from torch import Tensor
from torch.nn.functional import prelu
from torch.testing import assert_close

from recsys_mtl.models import attention
from recsys_mtl.models.attention import TargetAttention


def textbook_scores(layer: TargetAttention, y: Tensor, e: Tensor) -> Tensor:
    """The formula of the docstring, on the four-fold input."""
    y = y[:, None].expand_as(e)
    h = layer.inner(torch.cat([y, e, y - e, y * e], dim=2))
    unit = prelu(h.flatten(0, 1), layer.slope).view_as(h)
    return layer.outer(unit).squeeze(2)


def made(dim: int = 4, hidden: int = 6) -> TargetAttention:
    torch.manual_seed(1)
    layer = TargetAttention(dim, hidden).double()
    torch.nn.init.uniform_(layer.slope, -0.5, 0.5)
    return layer


def inputs(rows: int = 5, steps: int = 3, dim: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    y = torch.randn(rows, dim, dtype=torch.float64, requires_grad=True)
    return y, torch.randn(rows, steps, dim, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("chunk", [1, 40, 2**20])
def test_scores_and_gradients_equal_the_textbook_form(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_CHUNK_ELEMENTS", chunk)
    layer, (y, e) = made(), inputs()
    found, expected = layer.scores(y, e), textbook_scores(layer, y, e)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    wanted = [y, e, *layer.parameters()]
    direction = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, wanted, direction),
        torch.autograd.grad(expected, wanted, direction),
        strict=True,
    ):
        assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_weights_by_hand() -> None:
    """score = PReLU(y * e) for width 1: y = 2 and e = 1, -1 give 2 and -0.5."""
    layer = TargetAttention(1, 1)
    with torch.no_grad():
        layer.inner.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
        layer.inner.bias.zero_()
        layer.outer.weight.fill_(1.0)
    weights = layer(
        torch.tensor([[2.0]]), torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[True, True]])
    )
    assert_close(weights, torch.softmax(torch.tensor([[2.0, -0.5]]), dim=1))


def test_weights_are_a_distribution_over_real_events() -> None:
    layer, (y, e) = made(), inputs(4)
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    weights = layer(y, e, mask)
    assert_close(weights.sum(1), torch.tensor([1.0, 1, 1, 0]).double())
    assert weights[~mask].eq(0).all()
    assert weights[2, 2] == 1
    garbage = torch.where(mask[:, :, None], e, 1e3)
    assert_close(layer(y, garbage, mask), weights)


def test_an_empty_sequence_gives_zero_and_finite_gradients() -> None:
    layer, (y, e) = made(), inputs(2)
    mask = torch.tensor([[False] * 3, [True] * 3])
    weights = layer(y, e, mask)
    assert weights[0].tolist() == [0, 0, 0]
    grads = torch.autograd.grad(weights.pow(2).sum(), [y, e, *layer.parameters()])
    assert all(torch.isfinite(g).all() for g in grads)
    assert grads[0][0].eq(0).all()
    assert grads[1][0].eq(0).all()
    assert grads[1][1].abs().sum() > 0
