"""Counts of lower-ranked rows, ties counted one half: the base of every AUC."""

import numpy as np


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """int64[R]: where runs of equal keys start, in arrays sorted by these keys (n >= 1)."""
    changed = np.zeros(len(keys[0]), bool)
    changed[0] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def weight_below(scores: np.ndarray, *weights: np.ndarray) -> list[np.ndarray]:
    """For each weight: the total on rows with a lower score, plus half of that on tied rows.

    Args:
        scores: float64[n], n >= 1.
        weights: float64[n] each, or bool[n] to count rows.

    Returns:
        One float64[n] per weight, in the order of `scores`. A row is tied with itself.
    """
    order = np.argsort(scores)
    starts = run_starts(scores[order])
    run_of_row = np.empty(len(scores), np.int64)
    run_of_row[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(scores)))
    below = []
    for weight in weights:
        in_run = np.add.reduceat(weight[order].astype(np.float64), starts)
        below.append((np.cumsum(in_run) - 0.5 * in_run)[run_of_row])
    return below
