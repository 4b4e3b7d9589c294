"""Order of the predictions of a funnel."""

import numpy as np


def chain_violations(p: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """Share of rows on which a label is predicted above its parent, which contains it.

    Args:
        p: float64[B, T], probabilities over the entire space; their logarithms do as well.
        parents: index of each task's parent, -1 without.

    Returns:
        float64[T]; 0 for tasks without a parent, and without rows.
    """
    above = [
        np.count_nonzero(p[:, task] > p[:, parent]) if parent >= 0 else 0
        for task, parent in enumerate(parents)
    ]
    return np.array(above) / max(len(p), 1)
