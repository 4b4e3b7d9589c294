"""Weighted inversion counting without a loop over rows."""

import numpy as np


def lower_before(by_value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each position, the weight at earlier positions of lower value.

        out[p] = sum of weight[q] over q < p with value[q] < value[p]

    A merge tree over positions, walked from the root: a node covers 2 h
    neighbouring positions listed by value, its halves h each. What a position of
    the right half misses is the weight of left positions listed before it; then
    the list is split stably and both halves are nodes. Among equal values the
    later position must be listed first, so that ties count nothing.

    Args:
        by_value: int64[m], the positions 0 .. m - 1 listed by rising value.
        weight: int64[m] or float64[m], by position.

    Returns:
        Like `weight`, by position. O(m log m) time and O(m) memory.
    """
    num = len(by_value)
    levels = max(num - 1, 0).bit_length()
    # Padding up to a power of two stands last in value and position: nobody counts it.
    listed: np.ndarray = np.arange(1 << levels, dtype=np.int32 if levels < 31 else np.int64)
    listed[:num] = by_value
    padded = np.zeros(1 << levels, weight.dtype)
    padded[:num] = weight
    sums = np.zeros_like(padded)
    for level in reversed(range(levels)):
        half = 1 << level
        is_right = (listed & half) != 0
        right_at = np.flatnonzero(is_right)
        left, right = listed[~is_right].reshape(-1, half), listed[right_at]
        running = np.zeros((len(left), half + 1), weight.dtype)
        np.cumsum(padded[left], axis=1, out=running[:, 1:])
        # In the list a right position has as many left ones before it as its place
        # exceeds its rank among the right ones; rows of `running` are one longer.
        place = right_at - np.arange(len(right_at))
        place += np.repeat(np.arange(len(left)), half)
        sums[right] += running.ravel()[place]
        halves = np.stack([left, right.reshape(-1, half)], axis=1).ravel()
        listed = halves[: -(-num // half) * half]
    return sums[:num]
