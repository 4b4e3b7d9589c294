"""Newton's way to intercepts with as many stops expected as observed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from recsys_mtl.batches.batch import SurvivalTimes
from recsys_mtl.models.heads.hazard import daily_hazards
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures
from recsys_mtl.objectives.refit import MAX_STEP, newton_step, newton_sums
from recsys_mtl.objectives.survival import DailyObjective

EDGES = torch.tensor([1, 3, 6, 12, 40])
CAUSES = 2


def rows(seed, num=3_000, level=-2.0):
    """Logits that differ by row, and days and stops that have nothing to do with them."""
    random = torch.Generator().manual_seed(seed)
    z = level + torch.randn(num, CAUSES, 4, generator=random).double()
    entry = torch.randint(1, 8, (num,), generator=random)
    exit_ = entry + torch.randint(0, 20, (num,), generator=random)
    event = torch.randint(0, 1 + CAUSES, (num,), generator=random)
    return z, *exposures(entry, exit_, event, EDGES, CAUSES)


def refitted(z, days, events, steps=12):
    shift = torch.zeros(z.shape[1:], dtype=torch.float64)
    for _ in range(steps):
        shift += newton_step(*newton_sums(z + shift, days, events), shift)
    return shift


def expected(z, days):
    return (days[:, None] * daily_hazards(z)).sum(0)


@given(st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_sums_are_derivatives_of_the_likelihood(seed):
    z, days, events = rows(seed, num=50)
    shift = torch.zeros(CAUSES, 4, dtype=torch.float64, requires_grad=True)

    def total(b):
        return daily_hazard_nll(z + b, days, events).sum()

    gradient, hessian = newton_sums(z, days, events)
    assert_close(gradient, torch.autograd.functional.jacobian(total, shift), rtol=1e-6, atol=1e-6)
    whole = torch.autograd.functional.hessian(total, shift)
    for j in range(4):
        assert_close(hessian[j], whole[:, j, :, j], rtol=1e-6, atol=1e-6)
        others = [i for i in range(4) if i != j]
        assert not whole[:, j][:, :, others].any(), "intervals do not share anything"


@pytest.mark.parametrize("level", [-6.0, -2.0, 2.0])
def test_as_many_stops_are_expected_as_observed_and_the_likelihood_gains(level):
    z, days, events = rows(1, level=level)
    shift = refitted(z, days, events)
    # The prior's share: a stop or two of some hundred, for a shift of that many logits.
    assert (expected(z + shift, days) - events.sum(0) + shift).abs().max() < 1e-6
    before, after = (daily_hazard_nll(x, days, events).sum() for x in (z, z + shift))
    assert after < before
    again = refitted(z + shift, days, events)
    assert again.abs().max() < 0.1 * shift.abs().max()


def test_from_one_logit_for_all_rows_the_hazards_are_stops_over_days():
    _, days, events = rows(2, num=60_000)
    z = torch.full((len(days), CAUSES, 4), -1.0, dtype=torch.float64)
    shift = refitted(z, days, events)
    found = daily_hazards((z + shift)[:1])[0]
    assert_close(found, events.double().sum(0) / days.double().sum(0), rtol=0.02, atol=0)


def test_without_stops_a_hazard_falls_and_stays_above_0_and_without_rows_it_stays():
    z, days, events = rows(3)
    events[:, 1, 0] = 0
    days[:, 3], events[:, :, 3] = 0, 0
    shift = refitted(z, days, events, steps=30)
    assert -20 < shift[1, 0] < -2
    assert shift[:, 3].tolist() == [0, 0]


def test_one_step_is_at_most_one_logit():
    z, days, events = rows(4, level=-12.0)
    step = newton_step(*newton_sums(z, days, events), torch.zeros(CAUSES, 4).double())
    assert step.max() == MAX_STEP


def test_weights_decide_only_whether_a_row_counts():
    z, _, _ = rows(5, num=40)
    entry = torch.ones(40, dtype=torch.int64)
    exit_, event = entry + torch.arange(40) % 30, torch.arange(40) % 3
    weight = 0.1 + torch.rand(40, generator=torch.Generator().manual_seed(0))
    weight[30:] = 0
    objective = DailyObjective(EDGES, CAUSES)
    some = objective.newton_sums(z, SurvivalTimes(entry, exit_, event, weight))
    cut = (x[:30] for x in (entry, exit_, event, torch.ones(40)))
    for found, wanted in zip(some, objective.newton_sums(z[:30], SurvivalTimes(*cut)), strict=True):
        assert_close(found, wanted, rtol=0, atol=1e-12)
