"""Equality with pycox; `make oracles` runs it where the library is installed."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("pycox")

from pycox.evaluation import admin
from pycox.evaluation.concordance import concordance_td
from pycox.models.loss import nll_logistic_hazard

from recsys_mtl.metrics.survival.brier import administrative_brier
from recsys_mtl.metrics.survival.bucketed import count_pairs_td
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures, grid_labels, interval_nll
from tests.oracles.sets import tied_set

EDGES = torch.arange(9)


def random_batch(seed):
    """Logits of 200 rows in 8 one-day intervals, last interval of each row, whether it stopped."""
    gen = torch.Generator().manual_seed(seed)
    z = 4 * torch.randn(200, 8, generator=gen, dtype=torch.float64)
    last = torch.randint(0, 8, (200,), generator=gen)
    return z.requires_grad_(), last, torch.randint(0, 2, (200,), generator=gen)


def of_intervals(z, last, event):
    """Whoever is censored has lived to the end of its last interval."""
    survived, stopped = grid_labels(last + (event == 0), event, EDGES)
    return interval_nll(z, survived.double(), stopped.double())


def of_days(z, last, event):
    days, events = exposures(torch.zeros_like(last), last, event, EDGES, 1)
    return daily_hazard_nll(z[:, None], days.double(), events.double())


@pytest.mark.parametrize("nll", [of_intervals, of_days])
def test_likelihood_and_gradient_of_the_logistic_hazard(nll):
    for seed in range(20):
        z, last, event = random_batch(seed)
        found = nll(z, last, event)
        expected = nll_logistic_hazard(z, last, event.double(), reduction="none")
        assert_close(found, expected, atol=1e-10, rtol=0)
        ours, theirs = (torch.autograd.grad(part.sum(), z)[0] for part in (found, expected))
        assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_td_concordance_where_ties_count_nothing():
    """Its method antolini counts pairs of equal survival as 0, ours as one half."""
    for seed in range(20):
        _, o = tied_set(seed)
        curves = np.cumprod(np.random.default_rng(seed).choice([0.5, 0.75], (len(o), 12)), axis=1)
        expected = concordance_td(o.time, o.event, curves.T, o.time, "antolini")
        counts = count_pairs_td(curves, o)
        assert counts.tied > 0
        assert counts.concordant / counts.total == pytest.approx(expected, abs=1e-12)


def test_administrative_brier_score():
    times = np.array([2, 4, 7])
    for seed in range(20):
        risk, o = tied_set(seed)
        survival = np.exp(-risk[:, None] * times / 5)
        later = np.random.default_rng(seed).integers(0, 6, len(o))
        planned = np.where(o.event, o.time + later, o.time)
        expected = admin.brier_score(times, o.time, planned, o.event, survival.T, times)
        found = administrative_brier(survival, o, times, planned)
        np.testing.assert_allclose(found.values, expected, atol=1e-12)
