"""Where binary heads start: the best constants of every chain."""

import pytest
import torch
from torch.testing import assert_close

from recsys_mtl.objectives.base_rates import base_rate_logits, step_counts
from recsys_mtl.objectives.losses import task_losses
from tests.objectives.test_losses import batch_of

PARENTS = (-1, 0, 1, -1)
CHAINS = ["product", "conditional", "calibrated", "independent"]


def labelled(rows=4_000, mask_rate=0.0):
    """A funnel of three labels and one beside it, with some labels masked."""
    random = torch.Generator().manual_seed(0)
    draws = torch.rand(rows, 4, generator=random) < torch.tensor([0.3, 0.2, 0.5, 0.01])
    labels = draws.float()
    labels[:, :3] = labels[:, :3].cumprod(1)
    masks = (torch.rand(rows, 4, generator=random) >= mask_rate).float()
    return labels * masks, masks


@pytest.mark.parametrize("chain", CHAINS)
def test_no_other_constants_have_a_lower_loss(chain):
    labels, masks = labelled()
    reached, taken = step_counts(labels, masks, PARENTS, chain)
    start = torch.log(taken / (reached - taken)).float().requires_grad_()
    losses, _ = task_losses(start.expand_as(labels), batch_of(labels, masks), PARENTS, chain)
    assert_close(torch.autograd.grad(losses.sum(), start)[0], torch.zeros(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("chain", ["conditional", "independent"])
def test_masked_labels_are_not_counted(chain):
    """Each step has its own rows here, so the best constants are closed forms."""
    labels, masks = labelled(mask_rate=0.4)
    reached, taken = step_counts(labels, masks, PARENTS, chain)
    start = torch.log(taken / (reached - taken)).float().requires_grad_()
    losses, _ = task_losses(start.expand_as(labels), batch_of(labels, masks), PARENTS, chain)
    assert_close(torch.autograd.grad(losses.sum(), start)[0], torch.zeros(4), rtol=0, atol=1e-6)


def test_counts_by_hand():
    """Clicked and bought, clicked only, not clicked, clicked with the purchase unknown."""
    labels = torch.tensor([[1.0, 1], [1, 0], [0, 0], [1, 0]])
    masks = torch.tensor([[1.0, 1], [1, 1], [1, 0], [1, 0]])
    for chain, reached in (("product", [4, 2]), ("calibrated", [4, 3]), ("independent", [4, 2])):
        found = step_counts(labels, masks, (-1, 0), chain)
        assert [part.tolist() for part in found] == [reached, [3, 1]]


def test_a_label_without_rows_starts_at_one_half_and_one_without_negatives_is_finite():
    reached, taken = torch.tensor([0.0, 7, 7]), torch.tensor([0.0, 7, 0])
    logits = base_rate_logits(reached, taken)
    assert_close(logits.sigmoid(), torch.tensor([0.5, 15 / 16, 1 / 16]))
