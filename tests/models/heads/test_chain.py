import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.testing import assert_close

from recsys_mtl.models.heads.chain import chain_log_probs, chained, topological

LINE = (-1, 0, 1)
TREE = (-1, 0, 1, 1, 0)
"""click > (long_view > (like, follow), purchase)"""


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_probabilities_multiply_along_the_path() -> None:
    steps = torch.tensor([[logit(p) for p in (0.5, 0.4, 0.1, 0.25, 0.2)]])
    log_p, log_not_p = chain_log_probs(steps, TREE)
    expected = torch.tensor([[0.5, 0.2, 0.02, 0.05, 0.1]])
    assert_close(log_p.exp(), expected)
    assert_close(log_not_p.exp(), 1 - expected)


def test_without_parents_it_is_a_sigmoid() -> None:
    logits = torch.tensor([[0.3, -2.0]])
    log_p, log_not_p = chain_log_probs(logits, (-1, -1))
    assert_close(log_p.exp(), logits.sigmoid())
    assert_close(log_not_p.exp(), (-logits).sigmoid())


def test_order_of_tasks_does_not_matter() -> None:
    logits = torch.randn(6, 3)
    order = [2, 0, 1]
    log_p, log_not_p = chain_log_probs(logits, LINE)
    # Task 2 first: its parent, task 1, now stands last.
    other_p, other_not_p = chain_log_probs(logits[:, order], (2, -1, 1))
    assert_close(other_p, log_p[:, order])
    assert_close(other_not_p, log_not_p[:, order])


def test_rare_outcomes_keep_their_complement() -> None:
    """Three logits of -7: log(1 - p) is -7.56e-10, where a product in float32 gives 0."""
    _, log_not_p = chain_log_probs(torch.full((1, 3), -7.0), LINE)
    p = (1 / (1 + math.exp(7))) ** 3
    assert float(log_not_p[0, 2]) == pytest.approx(math.log1p(-p), rel=1e-5)


def test_sure_outcomes_keep_their_complement() -> None:
    """Three logits of 20: 1 - p is 3 e^-20 to first order, where 1 - exp(log p) loses it."""
    _, log_not_p = chain_log_probs(torch.full((1, 3), 20.0), LINE)
    assert float(log_not_p[0, 2]) == pytest.approx(math.log(3) - 20, rel=1e-6)


@given(logits=arrays("float64", (4, 5), elements=st.floats(-40, 40)))
def test_complements_and_order_hold_for_any_logits(logits) -> None:
    log_p, log_not_p = chain_log_probs(torch.from_numpy(logits), TREE)
    assert_close(log_p.exp() + log_not_p.exp(), torch.ones(4, 5).double(), rtol=0, atol=1e-12)
    for task, parent in enumerate(TREE):
        if parent >= 0:
            assert (log_p[:, task] <= log_p[:, parent]).all()


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_extreme_logits_are_finite_with_useful_gradients(size: float) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    logits = (size * signs).requires_grad_()
    log_p, log_not_p = chain_log_probs(logits, LINE)
    assert torch.isfinite(log_p).all() and torch.isfinite(log_not_p).all()
    (grad,) = torch.autograd.grad(log_p.sum() + log_not_p.sum(), logits)
    assert torch.isfinite(grad).all()
    # Sure of all three steps and wrong about the last: every step is told so.
    sure = torch.full((1, 3), size, requires_grad=True)
    (grad,) = torch.autograd.grad(chain_log_probs(sure, LINE)[1][0, 2], sure)
    assert_close(grad, torch.full((1, 3), -1 / 3), rtol=1e-3, atol=0)


def test_half_precision_is_raised() -> None:
    log_p, _ = chain_log_probs(torch.full((1, 3), -7.0, dtype=torch.bfloat16), LINE)
    assert log_p.dtype == torch.float32


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    logits = (6 * torch.randn(8, 5, dtype=torch.float64)).requires_grad_()

    def both(x: Tensor) -> Tensor:
        return torch.cat(chain_log_probs(x, TREE))

    assert torch.autograd.gradcheck(both, (logits,), rtol=1e-6)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("product", LINE),
        ("conditional", LINE),
        ("calibrated", (-1, -1, -1)),
        ("independent", (-1, -1, -1)),
    ],
)
def test_only_conditional_rates_are_multiplied(chain, expected) -> None:
    assert chained(chain, LINE) == expected


def test_parents_come_first() -> None:
    assert topological((2, 0, -1)) == [2, 0, 1]
    assert topological(()) == []


@pytest.mark.parametrize("parents", [(0,), (1, 0), (-1, 2, 1)])
def test_cycles_are_refused(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="form a cycle"):
        topological(parents)
