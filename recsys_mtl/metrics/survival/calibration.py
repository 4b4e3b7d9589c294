"""Do stops come at the predicted rate? D-calibration, observed over expected."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class DCalibration:
    """How survival at the exits spreads over [0, 1]: evenly when calibrated (Haider).

    States of parts of the rows add up. At 1e5 rows and more the p-value refuses
    every model: read `largest_deviation`.
    """

    mass: np.ndarray
    """float64[N], rows per bin, from survival 0 up; censored rows are spread."""

    def __add__(self, other: Self) -> Self:
        return type(self)(self.mass + other.mass)

    @property
    def statistic(self) -> float:
        """Chi-square against equal bins, N - 1 degrees of freedom."""
        expected = self.mass.sum() / len(self.mass)
        return float(((self.mass - expected) ** 2).sum() / expected) if expected else float("nan")

    @property
    def p_value(self) -> float:
        """Probability of a larger statistic when calibrated."""
        # scipy costs 0.1 s to import and is needed in few reports.
        from scipy.special import chdtrc

        return float(chdtrc(len(self.mass) - 1, self.statistic))

    @property
    def largest_deviation(self) -> float:
        """Largest distance of a bin's share from 1 / N."""
        return float(np.abs(self.mass / self.mass.sum() - 1 / len(self.mass)).max())


def d_calibration(survival: np.ndarray, event: np.ndarray, num_bins: int = 10) -> DCalibration:
    """State of rows by their predicted survival at their exit.

    A stopped row adds 1 to the bin of its survival s. A censored one would have
    stopped at a survival uniform on [0, s]: it adds (s - k/N) / s to its bin k
    and 1 / (N s) to each lower one; with s = 0, 1 to bin 0.

    Args:
        survival: float64[n], S_i(t_i); S(t) / S(entry) with late entry; from few intervals by
            `within_interval`.
        event: bool[n], whether the row stopped.
        num_bins: N.

    Raises:
        ValueError: if a survival lies outside [0, 1].
    """
    if len(survival) and not (survival.min() >= 0 and survival.max() <= 1):
        raise ValueError("survival must lie in [0, 1]")
    home = np.minimum((survival * num_bins).astype(np.int64), num_bins - 1)
    mass = np.bincount(home[event], minlength=num_bins).astype(np.float64)
    s, k = survival[~event], home[~event]
    zero = s == 0
    s = np.where(zero, 1.0, s)
    mass += np.bincount(k, np.where(zero, 1.0, (s - k / num_bins) / s), minlength=num_bins)
    to_lower = np.bincount(k, np.where(zero, 0.0, 1 / (num_bins * s)), minlength=num_bins)
    mass += np.cumsum(to_lower[::-1])[::-1] - to_lower
    return DCalibration(mass)


def within_interval(
    before: np.ndarray, after: np.ndarray, event: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Survival at the exits, drawn within the interval of each stop.

    With few intervals survival takes few values and even the true model fails
    the test; a stop is somewhere in its interval, uniform in survival.

    Args:
        before: float64[n], survival at the start of the interval of the exit.
        after: float64[n], survival at its end, or where a censored row was last seen.
        event: bool[n]; censored rows keep `after`.
        seed: of the draws.
    """
    uniform = np.random.default_rng(seed).random(len(before))
    return np.where(event, after + uniform * (before - after), after)


@dataclass(frozen=True, slots=True)
class RateCell:
    """Stops of one cause in one interval against their prediction."""

    cause: int
    bucket: int
    observed: int
    expected: float
    ratio: float | None
    """O / E; None where nothing is expected."""
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ObservedExpected:
    """Observed and expected stops per cause and interval; states of parts add up.

    Exact under censoring and late entry: expected is the sum of days at risk times
    predicted daily hazard.
    """

    observed: np.ndarray
    """int64[Q, J]."""
    expected: np.ndarray
    """float64[Q, J]."""

    @classmethod
    def of(cls, stops: np.ndarray, days: np.ndarray, hazard: np.ndarray) -> Self:
        """State of n rows.

        Args:
            stops: bool or int[n, Q, J], 1 for the cause and the interval of the stop.
            days: float[n, J], days at risk in each interval, that of the stop included.
            hazard: float[n, Q, J], predicted daily probability of stopping.
        """
        expected = np.einsum("nj,nqj->qj", days, hazard, dtype=np.float64)
        return cls(stops.sum(axis=0, dtype=np.int64), expected)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.observed + other.observed, self.expected + other.expected)

    def cells(self, level: float = 0.95) -> list[RateCell]:
        """Each cause and interval with its exact Poisson interval of O, divided by E."""
        low, high = poisson_interval(self.observed, level)
        cells = []
        for (cause, bucket), expected in np.ndenumerate(self.expected):
            counts = (part[cause, bucket].item() for part in (self.observed, low, high))
            observed, below, above = counts
            bounds = [v / expected if expected else None for v in (observed, below, above)]
            cells.append(RateCell(cause, bucket, observed, float(expected), *bounds))
        return cells


def poisson_interval(observed: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact (Garwood) interval of the mean behind Poisson counts, elementwise."""
    from scipy.special import gammaincinv

    tail = (1 - level) / 2
    low = np.where(observed > 0, gammaincinv(np.maximum(observed, 1), tail), 0.0)
    return low, gammaincinv(observed + 1, 1 - tail)
