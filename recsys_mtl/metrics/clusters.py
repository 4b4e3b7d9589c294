"""Cluster-robust standard errors from influence values.

Rows of one user are not independent: on a simulated feed with 100 impressions
per user, a 95 % interval that treats them so covers the truth only 76 % of the
time. Everything here therefore sums influence values within clusters first.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

T_BELOW_CLUSTERS = 50
"""Below this many clusters, quantiles come from Student's t with G - 1 degrees of freedom."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Which cluster each of n rows belongs to.

    Attributes:
        codes: int64[n], every value of [0, count) occurs.
        count: number of clusters (G).
    """

    codes: np.ndarray
    count: int

    @classmethod
    def of(cls, groups: np.ndarray) -> Self:
        """Clusters of equal keys; `groups` is int64[n]."""
        keys, codes = np.unique(groups, return_inverse=True)
        return cls(codes, len(keys))

    @classmethod
    def singletons(cls, num_rows: int) -> Self:
        """Each row its own cluster: independent rows."""
        return cls(np.arange(num_rows), num_rows)

    def take(self, rows: np.ndarray) -> "Clusters":
        """Clusters of a subset; `rows` is bool[n] or int64[m]."""
        codes = self.codes[rows]
        present = np.bincount(codes, minlength=self.count) > 0
        renumbered = np.cumsum(present) - 1
        return Clusters(renumbered[codes], int(present.sum()))


def cluster_se(psi: np.ndarray, clusters: Clusters) -> float | None:
    """Standard error of an estimate whose error is the mean of `psi`.

    SE = (1/n) sqrt( G/(G-1) sum_g ( sum_{i in g} psi_i )^2 )

    Args:
        psi: float64[n], influence values; they sum to 0.
        clusters: of the same n rows.

    Returns:
        The standard error, None with fewer than two clusters.
    """
    if clusters.count < 2:
        return None
    sums = np.bincount(clusters.codes, weights=psi, minlength=clusters.count)
    scale = clusters.count / (clusters.count - 1)
    return float(np.sqrt(scale * np.dot(sums, sums)) / len(psi))


def quantile(level: float, num_clusters: int) -> float:
    """Quantile at `level` of the standardised estimate: normal, or t with few clusters."""
    if num_clusters >= T_BELOW_CLUSTERS:
        return NormalDist().inv_cdf(level)
    # scipy costs 0.1 s to import and is needed only for tiny holdouts.
    from scipy.special import stdtrit

    return float(stdtrit(max(num_clusters - 1, 1), level))
