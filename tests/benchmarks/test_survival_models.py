import numpy as np
import pytest
import torch

from benchmarks.survival.data import Sample, hold_out, normal_scores
from benchmarks.survival.hazard import (
    HazardModel,
    Recipe,
    fit_current_status,
    fit_hazard,
    quantile_edges,
)
from recsys_mtl.metrics.survival.outcomes import Outcomes

SMALL = Recipe(num_intervals=4, hidden=(8,), dropout=0.0, lr=1e-2, l2=0.0, patience=5)


def test_normal_scores_depend_on_ranks_alone_and_flags_are_standardised():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=50), np.arange(50) < 10])
    skewed = np.column_stack([np.exp(5 * x[:, 0]), x[:, 1]])
    found = normal_scores(x)(x)
    np.testing.assert_allclose(normal_scores(skewed)(skewed), found, atol=1e-12)
    np.testing.assert_allclose(found[[0, 49], 1], [2.0, -0.5])
    beyond = normal_scores(x)(np.array([[99.0, 1.0]]))
    assert beyond[0, 0] == found[:, 0].max()


def test_edges_cut_the_kaplan_meier_curve_into_equal_steps():
    """Ten stops on days 1 to 10: four steps fall to 3/4, 1/2 and 1/4 by the days 3, 5 and 8."""
    found = Outcomes(np.arange(1.0, 11.0), np.ones(10, bool))
    assert quantile_edges(found, 4).tolist() == [1, 4, 6, 9, 11]


def test_hold_out_takes_the_same_share_of_stops_and_censored():
    found = Outcomes(np.arange(1.0, 101.0), np.arange(100) < 40)
    held = hold_out(found, 0.25, np.random.default_rng(0))
    assert held[:40].sum() == 10 and held[40:].sum() == 15


def test_read_outs_agree_at_a_constant_hazard():
    """S(t) = q^t, fractions of a day included; the expected days are a geometric sum."""
    model = HazardModel(1, torch.tensor([1, 4, 11]), SMALL)
    torch.nn.init.zeros_(model.head.body[-1].weight)
    model.head.start_at(torch.full((1, 2), float(np.log(0.25))))
    x, q = np.zeros((2, 1)), 0.8
    times = np.array([0.5, 3.0, 7.0])
    np.testing.assert_allclose(model.survival(x, times)[0], q**times, rtol=1e-6)
    np.testing.assert_allclose(model.risk(x, 10.0), 1 - (1 - q**10) / 0.2 / 10, rtol=1e-6)
    stopped = model.stop_probability(x, np.array([2.0, 5.0]), np.array([5.0, 6.5]))
    np.testing.assert_allclose(stopped, 1 - q ** np.array([3.0, 1.5]), rtol=1e-6)


@pytest.fixture
def lives():
    """Geometric lifetimes of daily hazard .05 or .3, told apart by a flag."""
    rng = np.random.default_rng(0)
    flag = rng.random(2000) < 0.5
    return flag[:, None].astype(float), rng.geometric(np.where(flag, 0.3, 0.05)).astype(float), rng


def test_lifetimes_recover_both_hazards(lives):
    x, life, _ = lives
    found = Outcomes(np.minimum(life, 20), life <= 20)
    model = fit_hazard(Sample(x, found), SMALL, seed=0)
    survival = model.survival(np.array([[0.0], [1.0]]), np.array([5.0]))[:, 0]
    np.testing.assert_allclose(survival, [0.95**5, 0.7**5], atol=0.05)


def test_status_at_one_age_recovers_both_hazards(lives):
    """Whether a row outlived a random age is all that is seen."""
    x, life, rng = lives
    age = rng.integers(1, 15, len(life)).astype(float)
    model = fit_current_status(x, age, life > age, SMALL, seed=0)
    survival = model.survival(np.array([[0.0], [1.0]]), np.array([5.0]))[:, 0]
    np.testing.assert_allclose(survival, [0.95**5, 0.7**5], atol=0.1)
