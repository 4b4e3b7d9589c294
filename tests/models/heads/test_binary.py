import torch

from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.spec.model_config import HeadConfig


def test_logit_by_hand() -> None:
    """relu([1 - 3, 1 + 3]) = [0, 4]; 10 * 0 - 2 * 4 + 0.5 = -7.5."""
    head = BinaryHead(2, HeadConfig(hidden=(2,)))
    values = ([[1.0, -1.0], [1.0, 1.0]], [0.0, 0.0], [[10.0, -2.0]], [0.5])
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    assert head(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [-7.5, 0.5]


def test_the_start_is_the_logit_of_a_row_about_which_nothing_is_known() -> None:
    head = BinaryHead(2, HeadConfig(hidden=(3,)))
    head.start_at(-2.0)
    with torch.no_grad():
        head.body[0].bias.fill_(-9.0)
    torch.testing.assert_close(head(torch.zeros(4, 2)), torch.full((4,), -2.0))


def test_without_hidden_layers_it_is_linear() -> None:
    head = BinaryHead(3, HeadConfig(hidden=()))
    x, z = torch.randn(2, 4, 3)
    offset = head(torch.zeros(1, 3))
    torch.testing.assert_close(head(x + z), head(x) + head(z) - offset)
