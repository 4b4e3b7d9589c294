import math

import numpy as np
import pytest

from benchmarks.survival.cox import fit_cox
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.outcomes import Outcomes


def outcomes(time, event):
    return Outcomes(np.array(time, float), np.array(event, bool))


def efron_by_loop(beta, x, found):
    """The partial likelihood, stop by stop."""
    total, w = 0.0, np.exp(x @ beta)
    for u in np.unique(found.time[found.event]):
        stops = found.event & (found.time == u)
        at_risk = w[found.time >= u].sum()
        total += (x[stops] @ beta).sum()
        for rank in range(stops.sum()):
            total -= math.log(at_risk - rank / stops.sum() * w[stops].sum())
    return total


def test_three_stops_have_their_closed_form():
    """x = 1, 0, 1: the score 1 - 2u / (2u + 1) - u / (u + 1), u = exp(beta), is 0 at u^2 = 1/2."""
    model = fit_cox(np.array([[1.0], [0.0], [1.0]]), outcomes([1, 2, 3], [1, 1, 1]))
    np.testing.assert_allclose(model.beta, -math.log(2) / 2, atol=1e-6)
    u = math.sqrt(0.5)
    expected = math.log(u / (2 * u + 1) / (u + 1))
    assert model.log_likelihood == pytest.approx(expected, abs=1e-10)


def test_ties_with_balanced_covariates_share_the_risk_set():
    """Both tied stops leave together: at beta = 0 Efron's terms are 4 and 4 - 1."""
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    model = fit_cox(x, outcomes([1, 1, 2, 2], [1, 1, 0, 0]))
    np.testing.assert_allclose(model.beta, 0, atol=1e-10)
    assert model.log_likelihood == pytest.approx(-math.log(4 * 3))
    np.testing.assert_allclose(model.baseline.at(np.array([0.5, 1, 2])), [1, *[math.exp(-0.5)] * 2])


@pytest.mark.parametrize("seed", range(5))
def test_fit_is_the_maximum_of_the_likelihood_with_ties(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    found = outcomes(rng.integers(1, 8, 60), rng.random(60) < 0.6)
    model = fit_cox(x, found)
    best = efron_by_loop(model.beta, x - model.center, found)
    assert model.log_likelihood == pytest.approx(best, abs=1e-9)
    for step in np.vstack([np.eye(3), -np.eye(3)]):
        # A quadratic around the maximum: a slope s would move the value by 1e-3 s.
        change = efron_by_loop(model.beta + 1e-3 * step, x - model.center, found) - best
        assert -1e-4 < change < 0


def test_shift_and_scale_of_a_column_change_no_prediction():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    found = outcomes(rng.exponential(size=80), rng.random(80) < 0.7)
    one, other = fit_cox(x, found), fit_cox(5 + 10 * x, found)
    times = np.linspace(0.1, 2, 5)
    expected = one.survival(x, times)
    np.testing.assert_allclose(other.survival(5 + 10 * x, times), expected, atol=1e-7)


def test_true_effects_are_found():
    """20,000 exponential lifetimes of rate exp(x beta), a third censored; s.e. are about .01."""
    rng = np.random.default_rng(1)
    x, beta = rng.normal(size=(20_000, 2)), np.array([0.7, -0.3])
    life, censoring = rng.exponential(np.exp(-x @ beta)), rng.exponential(2, 20_000)
    found = Outcomes(np.minimum(life, censoring), life <= censoring)
    model = fit_cox(x, found)
    np.testing.assert_allclose(model.beta, beta, atol=0.04)
    assert harrell_c(model.risk(x), found).value > 0.65
    at_center = model.baseline.at(np.array([0.5, 1.0]))
    np.testing.assert_allclose(at_center, np.exp([-0.5, -1.0]), atol=0.02)


def test_column_that_separates_the_stops_is_refused():
    with pytest.raises(ValueError, match="separating"):
        fit_cox(np.array([[3.0], [2.0], [1.0]]), outcomes([1, 2, 3], [1, 1, 1]))


def test_late_entry_is_refused():
    late = Outcomes(np.array([2.0]), np.array([True]), entry=np.array([1.0]))
    with pytest.raises(ValueError, match="late entry"):
        fit_cox(np.ones((1, 1)), late)
