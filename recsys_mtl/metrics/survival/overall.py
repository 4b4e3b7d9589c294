"""Likelihood and number of stops of all rows, with standard errors that know of clusters."""

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable


def mean_nll(nll: np.ndarray, stopped: np.ndarray, clusters: Clusters) -> Estimate:
    """Mean negative log-likelihood, nats per row; psi_i = nll_i - mean nll.

    Args:
        nll: float64[n], of each row (`objectives.hazard.daily_hazard_nll`).
        stopped: bool[n], whether its stop was seen.
        clusters: of the n rows.
    """
    reason = unusable(nll, stopped, both_classes=False)
    if reason:
        return undefined(reason, stopped, clusters)
    value = float(nll.mean())
    return estimate(value, nll - value, clusters, stopped)


def stop_ratio(stopped: np.ndarray, expected: np.ndarray, clusters: Clusters) -> Estimate:
    """R = observed over expected stops; 1 is calibrated in the large.

    psi_i = (y_i - R e_i) / mean e

    Args:
        stopped: bool[n], y, whether the row's stop was seen.
        expected: float64[n], e, its days at risk times their predicted hazards, summed.
        clusters: of the n rows.
    """
    reason = unusable(expected, stopped, both_classes=False)
    if not reason and not (stopped.any() and expected.sum() > 0):
        reason = "no stop" if not stopped.any() else "no stop is expected"
    if reason:
        return undefined(reason, stopped, clusters)
    value = float(np.count_nonzero(stopped) / expected.sum())
    return estimate(value, (stopped - value * expected) / expected.mean(), clusters, stopped)
