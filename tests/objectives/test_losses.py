import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from recsys_mtl.batches.batch import Batch
from recsys_mtl.models.heads.chain import chain_log_probs
from recsys_mtl.objectives.losses import entire_space, task_losses
from tests.batches.encoded import make_batch

LOG2 = math.log(2)


def batch_of(labels: Tensor, masks: Tensor, weights: Tensor | None = None) -> Batch:
    weights = torch.ones_like(labels) if weights is None else weights
    return dataclasses.replace(make_batch(1), labels=labels, masks=masks, weights=weights)


def test_two_rows_by_hand() -> None:
    """Task 0: p = 1/2 and 3/4 with labels 1 and 0; task 1 only counts row 1, with p = 3/4."""
    logits = torch.tensor([[0.0, 5.0], [math.log(3), math.log(3)]])
    labels, masks = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [1, 1]])
    losses, present = task_losses(logits, batch_of(labels, masks), (-1, -1), "independent")
    assert_close(losses, torch.tensor([(LOG2 + math.log(4)) / 2, math.log(4 / 3)]))
    assert present.tolist() == [True, True]


def test_the_denominator_is_the_sum_of_weights() -> None:
    """Costs log 2 and log 4 with weights 3 and 1: (3 log 2 + 2 log 2) / 4."""
    logits = torch.tensor([[0.0], [math.log(3)]])
    labels, weights = torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [1.0]])
    losses, _ = task_losses(
        logits, batch_of(labels, torch.ones(2, 1), weights), (-1,), "independent"
    )
    assert_close(losses, torch.tensor([5 * LOG2 / 4]))


def test_the_scale_of_weights_does_not_matter() -> None:
    logits, labels, weights = torch.randn(4, 1), torch.ones(4, 1), torch.rand(4, 1)
    small, large = (
        task_losses(logits, batch_of(labels, labels, scale * weights), (-1,), "product")[0]
        for scale in (1e-3, 1e3)
    )
    assert_close(small, large)


def test_chain_by_hand() -> None:
    """p_click = 1/2, p_buy = 1/2 * 1/4 = 1/8; bought, clicked only, not clicked."""
    logits = torch.tensor([[0.0, -math.log(3)]]).repeat(3, 1)
    labels, masks = torch.tensor([[1.0, 1], [1, 0], [0, 0]]), torch.ones(3, 2)
    losses, _ = task_losses(logits, batch_of(labels, masks), (-1, 0), "product")
    assert_close(losses, torch.tensor([LOG2, (math.log(8) + 2 * math.log(8 / 7)) / 3]))


ENTIRE_SPACE = [
    # parent label, mask; child label, mask -> child label, mask
    ((0, 1), (0, 0), (0, 1)),  # not clicked: not bought, though nobody looked
    ((0, 1), (0, 1), (0, 1)),
    ((0, 1), (1, 1), (0, 1)),  # the label is parent x child
    ((1, 1), (1, 1), (1, 1)),
    ((1, 1), (0, 1), (0, 1)),
    ((1, 1), (0, 0), (0, 0)),  # clicked, and the purchase is not known yet
    ((0, 0), (1, 1), (0, 0)),  # the parent is not known
    ((0, 0), (0, 0), (0, 0)),
]


@pytest.mark.parametrize(("parent", "child", "expected"), ENTIRE_SPACE)
def test_rows_and_labels_of_the_entire_space(parent, child, expected) -> None:
    labels, masks = torch.tensor([[parent, child]]).float().unbind(2)
    label, mask = entire_space(labels, masks, (-1, 0))
    assert (label[0].tolist(), mask[0].tolist()) == (
        [parent[0] * parent[1], expected[0]],
        [parent[1], expected[1]],
    )


def test_what_is_known_of_a_grandparent_holds_for_all_below() -> None:
    """Rows: stopped at the root; stopped at the child; root unknown; child unknown; all three."""
    labels = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    masks = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    for parents, order in (((-1, 0, 1), [0, 1, 2]), ((1, 2, -1), [2, 1, 0])):
        label, mask = entire_space(labels[:, order], masks[:, order], parents)
        assert mask[:, order].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 1]]
        assert label[:, order].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1]]


def test_independent_labels_ignore_parents() -> None:
    labels, masks = torch.tensor([[0.0, 1], [1, 1]]), torch.tensor([[1.0, 0], [1, 1]])
    batch, logits = batch_of(labels, masks), torch.randn(2, 2)
    chained, _ = task_losses(logits, batch, (-1, 0), "independent")
    plain, _ = task_losses(logits, batch, (-1, -1), "product")
    assert torch.equal(chained, plain)


def test_a_task_without_rows_is_absent_with_zero_loss_and_gradient() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    masks = torch.tensor([[1.0, 0]]).repeat(3, 1)
    losses, present = task_losses(logits, batch_of(torch.zeros(3, 2), masks), (-1, -1), "product")
    assert present.tolist() == [True, False]
    assert losses[1] == 0
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0, 0, 0]


@given(seed=st.integers(0, 1000))
def test_masked_rows_have_zero_gradient_and_do_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, masks = torch.randint(0, 2, (2, 6, 3), generator=generator).float()
    logits = torch.randn(6, 3, generator=generator, requires_grad=True)
    batch = batch_of(labels * masks, masks)
    losses, _ = task_losses(logits, batch, (-1, -1, -1), "independent")
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    assert grad[masks == 0].eq(0).all()
    assert grad[masks == 1].ne(0).all()
    elsewhere = torch.where(masks == 1, logits, 1e4)
    assert torch.equal(task_losses(elsewhere, batch, (-1, -1, -1), "independent")[0], losses)
    _, mask = entire_space(labels * masks, masks, (-1, 0, 1))
    losses, _ = task_losses(logits, batch, (-1, 0, 1), "product")
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    assert grad[mask.sum(1) == 0].eq(0).all()


def test_loss_is_the_entropy_when_the_model_is_right() -> None:
    """Labels drawn from p: the mean over all outcomes of a chain is their entropy."""
    logits = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    p = chain_log_probs(logits, (-1, 0))[0].exp()[0]
    outcomes = torch.tensor([[0.0, 0], [1, 0], [1, 1]]).double()
    shares = torch.stack([1 - p[0], p[0] - p[1], p[1]])[:, None].expand(3, 2)
    batch = batch_of(outcomes, torch.ones(3, 2).double(), shares)
    losses, _ = task_losses(logits.expand(3, 2), batch, (-1, 0), "product")
    assert_close(losses, -(p * p.log() + (1 - p) * (1 - p).log()), rtol=1e-10, atol=0)
