"""Survival losses do not depend on how rows are spread over processes.

Training runs in one process so far; what it divides are sums, which this holds it to.
"""

import pytest
import torch
from torch.testing import assert_close

from recsys_mtl.batches.batch import SurvivalTimes
from recsys_mtl.models.heads.hazard import HazardHead
from recsys_mtl.objectives.survival import DailyObjective, TwoTermObjective

ROWS = 60
OBJECTIVES = {
    "daily": (DailyObjective(torch.tensor([1, 3, 5, 9]), 2), (2, 3)),
    "two_terms": (TwoTermObjective(torch.tensor([1, 3, 5]), torch.tensor([1, 5, 9]), 0.4), (1, 4)),
}
SHARES = {
    "two": [slice(0, 7), slice(7, ROWS)],
    "three, one of them without rows": [slice(0, 0), slice(0, 41), slice(41, ROWS)],
}


def rows():
    """Inputs and times; long rows come last, and weights differ by much, so shares are unlike."""
    gen = torch.Generator().manual_seed(2)
    entry = torch.arange(ROWS) * 4 // ROWS + 1
    exit_ = entry + torch.randint(0, 5, (ROWS,), generator=gen)
    event = torch.randint(0, 3, (ROWS,), generator=gen)
    weight = 5 * torch.rand(ROWS, generator=gen).double() ** 3
    weight[::7] = 0
    return torch.randn(ROWS, 6, generator=gen).double(), (entry, exit_, event, weight)


def gradients(head, value):
    return torch.autograd.grad(value, list(head.parameters()))


@pytest.mark.parametrize("kind", list(OBJECTIVES))
@pytest.mark.parametrize("shares", list(SHARES.values()), ids=list(SHARES))
def test_losses_and_gradients_of_all_ranks_are_those_of_one(kind, shares):
    objective, (causes, intervals) = OBJECTIVES[kind]
    torch.manual_seed(0)
    head = HazardHead(6, causes, intervals, (5,)).double()
    x, times = rows()

    def sums(part):
        return objective.loss(head(x[part]), SurvivalTimes(*(t[part] for t in times)))

    numerator, denominator = sums(slice(ROWS))
    expected = numerator / denominator
    # As after an all-reduce: each rank divides by the sum over all of them.
    parts = [sums(part) for part in shares]
    total = sum(weight.detach() for _, weight in parts)
    shown = [loss / total for loss, _ in parts]
    assert_close(sum(shown), expected, atol=1e-12, rtol=0)
    added = [sum(own) for own in zip(*(gradients(head, loss) for loss in shown), strict=True)]
    whole = gradients(head, expected)
    for own, other in zip(added, whole, strict=True):
        assert_close(own, other, atol=1e-12, rtol=0)
    # A mean of the ranks' means is another loss with another gradient.
    means = [loss / weight for loss, weight in (sums(part) for part in shares) if weight > 0]
    mean_of_means = sum(means) / len(means)
    assert abs(float((mean_of_means - expected).detach())) > 0.01
    other = gradients(head, mean_of_means)
    assert max(float((a - b).abs().max()) for a, b in zip(other, whole, strict=True)) > 0.01
