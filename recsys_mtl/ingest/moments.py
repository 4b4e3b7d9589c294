"""Exact sums of float64 values, so that moments do not depend on how rows are sharded."""

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import ClassVar

import numpy as np

_MANTISSA_BITS = 53
_LOW_BITS = 26
_UNIT_EXPONENT = 1074
"""Every finite float64 is an integer multiple of 2^-1074."""
_CHUNK_ROWS = 1 << 20
"""Bounds the sums of `_exact_sum` below 2^53, where float64 holds integers exactly."""
_SPLITTER = float((1 << 27) + 1)


@dataclass(frozen=True, slots=True)
class Sums:
    """Count, sum and sum of squares; the sums exact, in units of 2^-1074.

    Merging is addition of integers: associative and commutative, so any number of shards in any
    order gives the same bytes, which a merge of rounded means and squares (Chan et al., 1979)
    does not.
    """

    count: int = 0
    total: int = 0
    squares: int = 0

    LARGEST: ClassVar[float] = 1e150
    """Magnitude up to which squares and their split stay finite."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def moments(self) -> tuple[float, float]:
        """Mean and population standard deviation, each rounded once; needs a count above 0."""
        mean = Fraction(self.total, self.count << _UNIT_EXPONENT)
        square = Fraction(self.squares, self.count << _UNIT_EXPONENT)
        return float(mean), sqrt(max(square - mean * mean, Fraction(0)))


def sums_of(values: np.ndarray) -> Sums:
    """Sums of the values that are not NaN.

    Args:
        values: float64[B], NaN or at most `Sums.LARGEST` in magnitude.
    """
    known = values[~np.isnan(values)]
    square = known * known
    squares = _exact_sum(square) + _exact_sum(_square_error(known, square))
    return Sums(len(known), _exact_sum(known), squares)


def _square_error(values: np.ndarray, square: np.ndarray) -> np.ndarray:
    """What rounding took from each square, exactly (Dekker's product, 1971)."""
    scaled = _SPLITTER * values
    high = scaled - (scaled - values)
    low = values - high
    error: np.ndarray = low * low - ((square - high * high) - 2 * high * low)
    return error


def _exact_sum(values: np.ndarray) -> int:
    """The exact sum in units of 2^-1074: mantissas are added per exponent, in two halves."""
    total = 0
    for start in range(0, len(values), _CHUNK_ROWS):
        fraction, exponent = np.frexp(values[start : start + _CHUNK_ROWS])
        mantissa = np.ldexp(fraction, _MANTISSA_BITS).astype(np.int64)
        first = int(exponent.min())
        place = exponent - first
        high = np.bincount(place, weights=mantissa >> _LOW_BITS)
        low = np.bincount(place, weights=mantissa & ((1 << _LOW_BITS) - 1))
        for i in np.flatnonzero((high != 0) | (low != 0)).tolist():
            shift = first + i - _MANTISSA_BITS + _UNIT_EXPONENT
            part = (int(high[i]) << _LOW_BITS) + int(low[i])
            # Mantissas of subnormal numbers end in zeros, so nothing is cut off.
            total += part << shift if shift >= 0 else part >> -shift
    return total
