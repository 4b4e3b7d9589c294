"""Area under the ROC curve with its cluster-robust standard error."""

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable
from recsys_mtl.metrics.ranks import weight_below


def auc(scores: np.ndarray, labels: np.ndarray, clusters: Clusters | None = None) -> Estimate:
    """Probability that a positive row is scored above a negative one, ties counted one half.

    Mann-Whitney with mid-ranks. Influence values, with F0 and F1 the mid-rank
    distribution functions of the negatives' and positives' scores and p1 the
    share of positives:

        psi_i = y_i / p1 (F0(s_i) - A) + (1 - y_i) / (1 - p1) ((1 - F1(s_i)) - A)

    Args:
        scores: float64[n], any scale.
        labels: bool[n], or 0 and 1.
        clusters: of the n rows; independent rows when absent.

    Returns:
        The estimate, without a value when the rows are empty or of one class. O(n log n).
    """
    labels = labels.astype(bool)
    clusters = clusters or Clusters.singletons(len(labels))
    reason = unusable(scores, labels, both_classes=True)
    if reason:
        return undefined(reason, labels, clusters)
    n_pos = np.count_nonzero(labels)
    n_neg = len(labels) - n_pos
    neg_below, pos_below = weight_below(scores, ~labels, labels)
    value = float(neg_below[labels].sum() / (n_pos * n_neg))
    psi = np.where(
        labels,
        len(labels) / n_pos * (neg_below / n_neg - value),
        len(labels) / n_neg * (1 - pos_below / n_pos - value),
    )
    return estimate(value, psi, clusters, labels)
