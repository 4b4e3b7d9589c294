"""Static weighting of task losses."""

from torch import Tensor


def combine(losses: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """One loss for one backward: the weighted sum over the tasks that are present.

    Args:
        losses: float32[T].
        present: bool[T].
        weights: float32[T], from `objectives.tasks.<name>.weight`.

    Returns:
        float32 scalar; 0 without a present task.
    """
    return (losses * weights * present).sum()
