"""Landmark rows with what became of them and the survival that was predicted."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.curves import StepCurve
from recsys_mtl.metrics.survival.outcomes import Outcomes

_TINY = 1e-300
"""In place of a Kaplan-Meier curve at 0, whose later ratios would be 0 / 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """n landmark rows; int64[n] each, ages in days."""

    landmark: np.ndarray
    entry: np.ndarray
    """First day at risk; after the landmark where a creative was first seen later."""
    exit: np.ndarray
    """Last day at risk."""
    cause: np.ndarray
    """0 where censored, else 1 + number of the cause of the stop."""

    def take(self, rows: np.ndarray) -> "Lives":
        """A subset; `rows` is bool[n] or int64[m]."""
        return Lives(*(getattr(self, field.name)[rows] for field in fields(self)))

    def until(self, end: int) -> Outcomes:
        """Stops before day `end`; rows that are alive then are censored the day before."""
        return Outcomes(
            np.minimum(self.exit, end - 1), (self.cause > 0) & (self.exit < end), self.entry
        )


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Survival of n rows on every day of a grid that ends before day `end` of age."""

    through: np.ndarray
    """float64[n, end], log P(alive after day t of age), t = 0 .. end - 1."""

    @classmethod
    def of(cls, daily: np.ndarray, edges: np.ndarray) -> Self:
        """Curves of hazards that are constant inside intervals.

        Args:
            daily: float64[n, J], log P(alive after a day | alive before it).
            edges: int64[J + 1], days of age; days before the first have no hazard.
        """
        days = np.arange(edges[-1])[:, None] + 1 - edges[:-1]
        return cls(daily @ np.clip(days, 0, np.diff(edges)).T)

    @classmethod
    def marginal(cls, curve: StepCurve, num_rows: int, end: int) -> Self:
        """One curve for every row."""
        alive = np.maximum(curve.at(np.arange(end)), _TINY)
        return cls(np.broadcast_to(np.log(alive), (num_rows, end)))

    @property
    def end(self) -> int:
        """First day of age of which nothing is known."""
        return int(self.through.shape[1])

    def take(self, rows: np.ndarray) -> "Curves":
        """Curves of a subset; `rows` is bool[n] or int64[m]."""
        return Curves(self.through[rows])

    def alive(self, since: np.ndarray, days: np.ndarray) -> np.ndarray:
        """P(alive after days of age | alive after day `since`); beyond the grid that of its end.

        Args:
            since: int64[n], before `end`.
            days: int64[n, m].

        Returns:
            float64[n, m], 1 where a day is not after `since`.
        """
        at = np.take_along_axis(self.through, np.minimum(days, self.end - 1), axis=1)
        alive: np.ndarray = np.exp(np.minimum(at - self._at(since), 0))
        return alive

    def days_alive(self, since: np.ndarray, end: int) -> np.ndarray:
        """Expected days after day `since` and before day `end`, that of the stop included.

            RMST = sum of P(alive after day u - 1) over since < u < end

        Args:
            since: int64[n].
            end: at most that of the grid.

        Returns:
            float64[n].
        """
        before = np.exp(np.minimum(self.through[:, : end - 1] - self._at(since), 0))
        inside = np.arange(end - 1) >= since[:, None]
        days: np.ndarray = (before * inside).sum(axis=1)
        return days

    def _at(self, since: np.ndarray) -> np.ndarray:
        """Log P(alive after day `since`), float64[n, 1]."""
        return np.take_along_axis(self.through, since[:, None], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalRows:
    """n evaluated rows; arrays of n."""

    lives: Lives
    curves: Curves
    clusters: Clusters
    nll: np.ndarray
    """float64, nats."""
    expected: np.ndarray
    """float64, stops expected on the days at risk."""
    creative: np.ndarray
    """int64, its number."""
    day: np.ndarray
    """int64, of the landmark since 1970."""
    planned_end: np.ndarray
    """int64, age known at the landmark; 0 when there is no plan."""
    spend: np.ndarray
    """float64, summed before the landmark."""

    def __len__(self) -> int:
        return len(self.nll)

    def take(self, rows: np.ndarray) -> "SurvivalRows":
        """A subset; `rows` is bool[n] or int64[m]."""
        return SurvivalRows(
            self.lives.take(rows),
            self.curves.take(rows),
            self.clusters.take(rows),
            *(getattr(self, field.name)[rows] for field in fields(self)[3:]),
        )

    def outcomes(self) -> Outcomes:
        """What is known of them inside the grid."""
        return self.lives.until(self.curves.end)
