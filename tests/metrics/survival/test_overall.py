import numpy as np
import pytest

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import difference
from recsys_mtl.metrics.survival.overall import mean_nll, stop_ratio

PAIRS = Clusters.of(np.array([0, 0, 1, 1]))


def test_mean_of_four_rows():
    """Deviations -1.5, -.5, .5, 1.5 sum to -2 and 2: sqrt(2 x 8) / 4 = 1."""
    found = mean_nll(np.array([1.0, 2, 3, 4]), np.array([True, False, True, True]), PAIRS)
    assert (found.value, found.se) == (2.5, pytest.approx(1.0))
    assert (found.n, found.n_pos, found.n_clusters) == (4, 3, 2)


def test_ratio_of_four_rows():
    """Two stops of four expected; psi = y - e / 2 is .5, -.5, -.5, .5 with e = 1: clusters 0, 0."""
    stopped = np.array([True, False, False, True])
    found = stop_ratio(stopped, np.ones(4), PAIRS)
    assert (found.value, found.se) == (0.5, pytest.approx(0.0))
    apart = stop_ratio(stopped, np.array([1.0, 1, 2, 0]), Clusters.singletons(4))
    assert apart.value == 0.5
    assert apart.se == pytest.approx(np.sqrt(4 / 3 * (0.25 + 0.25 + 1 + 1)) / 4)


def test_ratio_of_many_draws_has_its_error():
    """Campaigns of six rows that share how much is expected of them wrongly."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(600):
        campaign = np.repeat(np.arange(80), 6)
        expected = rng.uniform(0.1, 0.5, 480)
        stopped = rng.random(480) < expected * np.exp(rng.normal(0, 0.3, 80))[campaign]
        found.append(stop_ratio(stopped, expected, Clusters.of(campaign)))
    spread = np.std([f.value for f in found])
    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.1)
    truth = np.exp(0.3**2 / 2)
    covered = [low <= truth <= high for low, high in (f.interval() for f in found)]
    assert 0.92 < np.mean(covered) < 0.98


def test_rows_of_one_model_cancel_out_of_a_difference():
    nll = np.array([1.0, 2, 3, 4])
    stopped = np.array([True, False, True, True])
    gain = difference(mean_nll(nll + 0.25, stopped, PAIRS), mean_nll(nll, stopped, PAIRS))
    assert (gain.value, gain.se) == (0.25, 0.0)


@pytest.mark.parametrize(
    ("stopped", "expected", "reason"),
    [
        ([], [], "no observed row"),
        ([False, False], [1.0, 1.0], "no stop"),
        ([True, False], [0.0, 0.0], "no stop is expected"),
        ([True, False], [np.nan, 1.0], "1 predictions are not finite"),
    ],
)
def test_a_ratio_without_stops_is_undefined(stopped, expected, reason):
    rows = np.array(stopped, bool), np.array(expected, float)
    found = stop_ratio(*rows, Clusters.singletons(len(stopped)))
    assert (found.value, found.reason) == (None, reason)
