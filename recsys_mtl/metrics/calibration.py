"""Predicted against observed rates: overall ratio and reliability bins."""

import math
from dataclasses import dataclass

import numpy as np

from recsys_mtl.metrics.clusters import Clusters, cluster_se, quantile
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable
from recsys_mtl.metrics.ranks import weight_below

NUM_BINS = 15


def calibration_ratio(
    probs: np.ndarray, labels: np.ndarray, clusters: Clusters | None = None
) -> Estimate:
    """R = sum of predictions / number of positives; 1 is calibrated in the large.

    psi_i = (p_i - R y_i) / mean y. Divide the standard error by R for that of ln R.

    Args:
        probs: float64[n], probabilities.
        labels: bool[n], or 0 and 1.
        clusters: of the n rows; independent rows when absent.
    """
    labels = labels.astype(bool)
    clusters = clusters or Clusters.singletons(len(labels))
    reason = unusable(probs, labels, both_classes=False)
    if not reason and not labels.any():
        reason = "no positive row"
    if reason:
        return undefined(reason, labels, clusters)
    value = float(probs.sum() / np.count_nonzero(labels))
    psi = (probs - value * labels) / labels.mean()
    return estimate(value, psi, clusters, labels)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of similar predictions: their mean prediction and observed rate with its interval."""

    n: int
    n_pos: int
    mean_prob: float
    rate: float
    low: float
    high: float


def reliability(
    probs: np.ndarray,
    labels: np.ndarray,
    clusters: Clusters | None = None,
    num_bins: int = NUM_BINS,
    level: float = 0.95,
) -> list[ReliabilityBin]:
    """Observed rate in bins of about equal numbers of rows, by rising prediction.

    Tied predictions share a bin, so bins differ in size, and there may be fewer,
    when predictions repeat. Intervals are Wilson's, with the number of rows
    divided by the design effect of the clusters: they stay in [0, 1] and have
    width even when no row of a bin is positive.

    Args:
        probs: float64[n], probabilities.
        labels: bool[n], or 0 and 1.
        clusters: of the n rows; independent rows when absent.
        num_bins: bins at most.
        level: coverage of the intervals.

    Returns:
        The bins that hold rows; none when no bin can be made.
    """
    labels = labels.astype(bool)
    clusters = clusters or Clusters.singletons(len(labels))
    if unusable(probs, labels, both_classes=False):
        return []
    (rank,) = weight_below(probs, np.ones(len(probs), bool))
    bin_of_row = (rank * num_bins / len(probs)).astype(np.int64)
    order = np.argsort(bin_of_row, kind="stable")
    ends = np.cumsum(np.bincount(bin_of_row, minlength=num_bins))
    parts = (p for p in np.split(order, ends[:-1]) if len(p))
    return [_bin(probs[rows], labels[rows], clusters.take(rows), level) for rows in parts]


def _bin(probs: np.ndarray, labels: np.ndarray, clusters: Clusters, level: float) -> ReliabilityBin:
    n, rate = len(labels), float(labels.mean())
    se = cluster_se(labels - rate, clusters)
    se_of_rows = math.sqrt(rate * (1 - rate) / n)
    design_effect = max(1.0, (se / se_of_rows) ** 2) if se and se_of_rows else 1.0
    z = quantile((1 + level) / 2, clusters.count)
    low, high = _wilson(rate, n / design_effect, z)
    n_pos = int(np.count_nonzero(labels))
    return ReliabilityBin(n, n_pos, float(probs.mean()), rate, low, high)


def _wilson(rate: float, rows: float, z: float) -> tuple[float, float]:
    shrink = 1 + z * z / rows
    middle = (rate + z * z / (2 * rows)) / shrink
    reach = z / shrink * math.sqrt(rate * (1 - rate) / rows + z * z / (4 * rows * rows))
    return max(0.0, middle - reach), min(1.0, middle + reach)
