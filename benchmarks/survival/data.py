"""Samples of lifetimes, the official splits of SUPPORT and GBSG, and scaling of covariates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.special import ndtri

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.outcomes import Outcomes

DAYS_PER_UNIT = {"support": 1.0, "gbsg": 365.25 / 12}
"""GBSG counts months; multiplied so, all its times are whole quarters of a day."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows with covariates and what is known of their stops."""

    x: np.ndarray
    """float64[n, p]."""
    outcomes: Outcomes
    """Times in days, above 0: a stop at time t lies on day ceil(t), the first of which is day 1."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray) -> "Sample":
        """A subset; `rows` is bool[n] or int64[m]."""
        return Sample(self.x[rows], self.outcomes.take(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Training and test rows; every model learns from the former alone."""

    train: Sample
    test: Sample
    clusters: Clusters
    """Of the test rows, for standard errors."""
    censor_time: np.ndarray | None = None
    """float64[n_test], where known: when each test row is censored if it does not stop."""

    def with_x(self, scaled: Callable[[np.ndarray], np.ndarray]) -> "Split":
        """Other covariates of the same rows."""
        train = Sample(scaled(self.train.x), self.train.outcomes)
        test = Sample(scaled(self.test.x), self.test.outcomes)
        return Split(train, test, self.clusters, self.censor_time)


def load_official(name: str, folder: Path) -> Split:
    """SUPPORT or GBSG as the DeepSurv repository splits them.

    Args:
        name: `support` or `gbsg`.
        folder: of `survival/<name>.parquet`.
    """
    table = pq.read_table(folder / "survival" / f"{name}.parquet")
    names = sorted((c for c in table.column_names if c.startswith("x")), key=lambda c: int(c[1:]))
    x = np.column_stack([table[c].to_numpy() for c in names]).astype(np.float64)
    # The files hold float32: rounding makes equal times equal, and whole days whole.
    days = np.round(4 * table["t"].to_numpy().astype(np.float64) * DAYS_PER_UNIT[name]) / 4
    sample = Sample(x, Outcomes(days, table["e"].to_numpy() > 0))
    is_test = np.array(table["split"].to_pylist()) == "test"
    clusters = Clusters.singletons(int(is_test.sum()))
    return Split(sample.take(~is_test), sample.take(is_test), clusters)


def hold_out(outcomes: Outcomes, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool[n]: rows held out at random, the same share of stopped and of censored ones."""
    held = np.zeros(len(outcomes), bool)
    for rows in (np.flatnonzero(outcomes.event), np.flatnonzero(~outcomes.event)):
        held[rng.permutation(rows)[: round(share * len(rows))]] = True
    return held


def standardiser(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Columns less their mean in the training rows, over their standard deviation there."""
    mean, sd = train.mean(axis=0), train.std(axis=0)
    return lambda x: (x - mean) / np.where(sd > 0, sd, 1)


def normal_scores(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Standardised normal quantiles of the columns' mid-ranks in the training rows.

    Between values of the training rows linear, beyond them constant: no outlier is far away.
    Columns with two values are only shifted and scaled.
    """
    tables = []
    for column in train.T:
        values, counts = np.unique(column, return_counts=True)
        tables.append((values, ndtri((np.cumsum(counts) - counts / 2) / len(column))))

    def scores(x: np.ndarray) -> np.ndarray:
        return np.column_stack([np.interp(c, *t) for c, t in zip(x.T, tables, strict=True)])

    scaled = standardiser(scores(train))
    return lambda x: scaled(scores(x))
