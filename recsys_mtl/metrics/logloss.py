"""Log-loss, and log-loss relative to a constant predictor (normalised entropy)."""

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable

CLIP = 1e-7
"""Probabilities are clipped to [CLIP, 1 - CLIP]: a saturated row costs 16 nats at most."""


def logloss(probs: np.ndarray, labels: np.ndarray, clusters: Clusters | None = None) -> Estimate:
    """Mean of -ln p(label), nats per row; psi_i = l_i - mean l.

    Args:
        probs: float64[n], probabilities.
        labels: bool[n], or 0 and 1.
        clusters: of the n rows; independent rows when absent.

    Returns:
        The estimate; `clipped_share` is the share of rows at the clip.
    """
    labels = labels.astype(bool)
    clusters = clusters or Clusters.singletons(len(labels))
    reason = unusable(probs, labels, both_classes=False)
    if reason:
        return undefined(reason, labels, clusters)
    losses = _row_losses(probs, labels)
    value = float(losses.mean())
    return estimate(value, losses - value, clusters, labels, {"clipped_share": _clipped(probs)})


def normalized_entropy(
    probs: np.ndarray, labels: np.ndarray, clusters: Clusters | None = None
) -> Estimate:
    """Log-loss divided by H(q), that of always predicting the rate q of positives.

    Below 1 is better than the constant. With H(q) = -q ln q - (1-q) ln(1-q):

        psi_i = (l_i - mean l) / H - NE ln((1-q)/q) (y_i - q) / H

    Args and returns as `logloss`; undefined when all labels are equal.
    """
    labels = labels.astype(bool)
    clusters = clusters or Clusters.singletons(len(labels))
    reason = unusable(probs, labels, both_classes=True)
    if reason:
        return undefined(reason, labels, clusters)
    losses = _row_losses(probs, labels)
    mean_loss, rate = float(losses.mean()), float(labels.mean())
    entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
    value = float(mean_loss / entropy)
    slope = value * np.log((1 - rate) / rate)
    psi = (losses - mean_loss - slope * (labels - rate)) / entropy
    return estimate(value, psi, clusters, labels, {"clipped_share": _clipped(probs)})


def _row_losses(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    right = np.where(labels, probs, 1 - probs)
    losses: np.ndarray = -np.log(np.clip(right, CLIP, 1 - CLIP))
    return losses


def _clipped(probs: np.ndarray) -> float:
    return float(np.mean((probs < CLIP) | (probs > 1 - CLIP)))
