"""Poisson bootstrap over clusters, for metrics without influence values."""

from collections.abc import Callable

import numpy as np

from recsys_mtl.metrics.clusters import Clusters


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: Clusters,
    num_replicates: int = 500,
    seed: int = 0,
) -> np.ndarray:
    """Draws of a statistic when whole clusters count a Poisson(1) number of times.

    The standard deviation of the draws is the standard error. Several models go
    into one statistic, or into calls with one seed: replicates then share their
    weights and differences are paired. A statistic that estimates the censoring
    curve does so from the same weights.

    Args:
        statistic: float64[n] row weights -> its values, float64[...], e.g. concordances of
            `RiskCells.state(weights)`.
        clusters: of the n rows (campaigns or advertisers).
        num_replicates: R.
        seed: of the weights.

    Returns:
        float64[R, ...]. One call of `statistic` per replicate.
    """
    rng = np.random.default_rng(seed)
    draws = [
        statistic(rng.poisson(1.0, clusters.count).astype(np.float64)[clusters.codes])
        for _ in range(num_replicates)
    ]
    return np.stack([np.asarray(draw, np.float64) for draw in draws])
