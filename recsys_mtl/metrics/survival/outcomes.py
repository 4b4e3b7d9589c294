"""What is known of each row's stop: the input of every survival metric.

The one tie rule of this package. Row j is a partner of a stopped row i when j
is seen to outlive it: `t_j > t_i`, or `t_j = t_i` and j is censored. Two stops
at one time are not comparable. With late entry j must also be at risk when i
stops, `entry_j <= t_i`. Higher risk means: stops sooner. Equal risks count one
half. Harrell's C of lifelines and scikit-survival counts the same pairs.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Observed stops and censorings of n rows.

    Attributes:
        time: int64[n] or float64[n], age at the stop or at censoring, or its interval (0-based).
        event: bool[n], whether the row stopped at `time`.
        entry: like `time`, first age at risk, inclusive; all at risk from the start when absent.
            lifelines counts from the instant after its `entry`: ours is one day more.
        weight: float64[n] >= 0, a pair counts w_i w_j; every row 1 when absent.

    Raises:
        ValueError: for lengths that differ, types that do not fit, values that are not finite,
            negative weights, or an entry after the exit.
    """

    time: np.ndarray
    event: np.ndarray
    entry: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.event.dtype != np.bool_:
            raise ValueError(f"event has type {self.event.dtype}; expected bool")
        for name in ("time", "entry", "weight"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.shape != self.event.shape:
                raise ValueError(
                    f"{name} has shape {values.shape}, event {self.event.shape}; they must agree"
                )
            # Times are negated to sort them: unsigned ones would wrap around.
            if name != "weight" and values.dtype.kind not in "if":
                raise ValueError(f"{name} has type {values.dtype}; expected signed int or float")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} has values that are not finite; drop those rows")
        if self.entry is not None and (late := np.count_nonzero(self.entry > self.time)):
            raise ValueError(
                f"{late} rows enter after they exit; they are never at risk: drop them"
            )
        if self.weight is not None and (self.weight < 0).any():
            raise ValueError("weight has negative values; weights must be at least 0")

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: np.ndarray) -> "Outcomes":
        """Outcomes of a subset; `rows` is bool[n] or int64[m]."""
        entry = None if self.entry is None else self.entry[rows]
        weight = None if self.weight is None else self.weight[rows]
        return Outcomes(self.time[rows], self.event[rows], entry, weight)

    def masses(self) -> np.ndarray:
        """The weights: float64[n], or int64[n] ones so that counts stay exact."""
        if self.weight is None:
            return np.ones(len(self), np.int64)
        return self.weight.astype(np.float64)

    def check_buckets(self, num_buckets: int) -> None:
        """Refuse times that are not interval numbers 0 .. `num_buckets` - 1.

        Raises:
            ValueError: if time or entry is not of an integer type or out of range.
        """
        for name, values in (("time", self.time), ("entry", self.entry)):
            if values is None or not len(values):
                continue
            if not np.issubdtype(values.dtype, np.integer):
                raise ValueError(f"{name} has type {values.dtype}; expected interval numbers")
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= num_buckets:
                raise ValueError(
                    f"{name} spans intervals {low} to {high}; expected 0 to {num_buckets - 1}"
                )
