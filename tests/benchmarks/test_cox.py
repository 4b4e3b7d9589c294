"""The Cox baseline against hand calculation, a known coefficient and published concordances."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.survival.cox import fit_cox
from benchmarks.survival.data import load_official
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.outcomes import Outcomes
from tests.conftest import REALDATA


def test_two_groups_without_ties_by_hand():
    """x = 1, 0, 1, 0 stop at 1, 2, 3, 4: the score is zero at one root of a quadratic.

    d log L / d beta = 1 - 2e/(2e + 2) - e/(e + 2) + 1 - e/(e + 1) with e = exp(beta).
    """
    outcomes = Outcomes(np.array([1, 2, 3, 4]), np.ones(4, bool))
    e = np.exp(fit_cox(np.array([[1.0], [0.0], [1.0], [0.0]]), outcomes).beta[0])
    assert 1 - e / (e + 1) - e / (e + 2) + 1 - e / (e + 1) == pytest.approx(0, abs=1e-8)


def test_tied_stops_are_shared_after_efron():
    """Stops of x = 1 and x = 0 at one time among 1, 0, 0: numerators e, denominators by Efron."""
    outcomes = Outcomes(np.array([1, 1, 2]), np.array([True, True, False]))
    model = fit_cox(np.array([[1.0], [0.0], [0.0]]), outcomes)
    e = np.exp(model.beta[0])
    total, tied = e + 2, e + 1
    score = 1 - e / total - (e / 2) / (total - tied / 2)
    assert score == pytest.approx(0, abs=1e-8)
    likelihood = np.log(e) - np.log(total) - np.log(total - tied / 2)
    assert model.log_likelihood == pytest.approx(likelihood)


def test_planted_coefficients_are_found():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4000, 2))
    time = rng.exponential(np.exp(-(x @ [0.8, -0.4])))
    censored = rng.exponential(2.0, 4000)
    outcomes = Outcomes(np.minimum(time, censored), time <= censored)
    np.testing.assert_allclose(fit_cox(x, outcomes).beta, [0.8, -0.4], atol=0.08)


def test_columns_that_depend_on_each_other_share_their_effect():
    outcomes = Outcomes(np.array([1, 2, 3, 4]), np.array([True, True, False, True]))
    x = np.array([[1.0], [0.0], [0.5], [2.0]])
    alone, twice = fit_cox(x, outcomes), fit_cox(np.hstack([x, x]), outcomes)
    np.testing.assert_allclose(twice.beta, np.repeat(alone.beta / 2, 2), atol=1e-6)


def test_late_entry_is_refused():
    outcomes = Outcomes(np.array([2, 3]), np.array([True, True]), entry=np.array([1, 2]))
    with pytest.raises(ValueError, match="late entry"):
        fit_cox(np.array([[1.0], [0.0]]), outcomes)


@pytest.mark.realdata
@pytest.mark.skipif(REALDATA is None, reason="RECSYS_REALDATA names no folder of real data")
@pytest.mark.parametrize(("name", "expected"), [("support", 0.583074), ("gbsg", 0.656291)])
def test_concordance_on_the_official_splits(name, expected):
    split = load_official(name, Path(str(REALDATA)))
    model = fit_cox(split.train.x, split.train.outcomes)
    found = harrell_c(model.risk(split.test.x), split.test.outcomes)
    assert found.value == pytest.approx(expected, abs=1e-3)
