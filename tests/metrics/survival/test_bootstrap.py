import numpy as np
import pytest

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.bootstrap import cluster_bootstrap
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.histogram import RiskCells
from recsys_mtl.metrics.survival.outcomes import Outcomes


def campaigns_world(campaigns=200, rows=3000):
    """Campaigns of unequal size whose ads share an effect."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, campaigns, rows)
    effect = rng.normal(size=campaigns)[codes]
    hazard = 1 / (1 + np.exp(1 - effect - rng.normal(size=rows)))
    time = np.minimum(rng.geometric(hazard) - 1, 5)
    risk = 1 / (1 + np.exp(-effect - rng.normal(size=rows)))
    noisy = 1 / (1 + np.exp(-effect - 2 * rng.normal(size=rows)))
    return (risk, noisy), Outcomes(time, time < 5), Clusters.of(codes)


def test_error_equals_that_of_the_influence_values():
    """500 replicates know a standard error to 3 %."""
    risks, o, clusters = campaigns_world()
    cells = [RiskCells.of(risk, o, 6, 256) for risk in risks]

    def concordances(weight):
        return np.array([c.state(weight).counts().value for c in cells])

    draws = cluster_bootstrap(concordances, clusters)
    assert draws.shape == (500, 2)
    estimates = [harrell_c(risk, o, clusters) for risk in risks]
    for column, estimate in zip(draws.T, estimates, strict=True):
        assert column.std(ddof=1) == pytest.approx(estimate.se, rel=0.12)
        assert column.mean() == pytest.approx(estimate.value, abs=0.003)
    naive = harrell_c(risks[0], o).se
    assert naive < 0.7 * estimates[0].se


def test_rows_of_a_cluster_share_a_poisson_weight():
    clusters = Clusters.of(np.array([7, 3, 7, 3, 7]))
    weights = cluster_bootstrap(lambda weight: weight, clusters, num_replicates=4000)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 3]).all()
    assert weights[:, 0].mean() == pytest.approx(1, abs=0.06)
    assert weights[:, 0].var() == pytest.approx(1, abs=0.12)
    assert np.corrcoef(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(0, abs=0.06)


def test_one_seed_gives_the_same_weights():
    clusters = Clusters.singletons(20)
    first, again = (cluster_bootstrap(np.copy, clusters, 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != cluster_bootstrap(np.copy, clusters, 5, seed=4)).any()
