import numpy as np
import pytest
from scipy.stats import norm, t

from recsys_mtl.metrics.clusters import Clusters, cluster_se, quantile


def test_se_by_hand():
    """Two clusters with sums 3 and -3 of four rows: sqrt(2 (9 + 9)) / 4."""
    users = Clusters.of(np.array([5, -2, 5, -2]))
    assert cluster_se(np.array([1.0, -2.0, 2.0, -1.0]), users) == pytest.approx(1.5)


def test_singletons_give_the_textbook_error_of_a_mean():
    x = np.random.default_rng(0).normal(size=100)
    se = cluster_se(x - x.mean(), Clusters.singletons(100))
    assert se == pytest.approx(x.std(ddof=1) / 10)


def test_copied_rows_in_a_cluster_add_no_information():
    x = np.random.default_rng(1).normal(size=50)
    x -= x.mean()
    copied = cluster_se(np.repeat(x, 7), Clusters.of(np.repeat(np.arange(50), 7)))
    assert copied == pytest.approx(cluster_se(x, Clusters.singletons(50)))


def test_one_cluster_has_no_error():
    assert cluster_se(np.zeros(3), Clusters.of(np.array([1, 1, 1]))) is None


def test_subset_is_renumbered():
    users = Clusters.of(np.array([30, 10, 20, 10]))
    part = users.take(np.array([True, False, True, False]))
    assert (part.codes.tolist(), part.count) == ([1, 0], 2)


@pytest.mark.parametrize("level", [0.95, 0.9, 0.0256])
def test_quantile_is_t_below_fifty_clusters(level):
    assert quantile(level, 49) == pytest.approx(t.ppf(level, 48))
    assert quantile(level, 50) == pytest.approx(norm.ppf(level))
