"""A metric's value with its standard error and the influence values behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys_mtl.metrics.clusters import Clusters, cluster_se, quantile


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One number with its uncertainty; `value` is None, with a reason, where undefined."""

    value: float | None
    se: float | None
    """Cluster-robust standard error; None when undefined or with fewer than two clusters."""
    n: int
    """Rows that the value rests on."""
    n_pos: int
    n_clusters: int
    reason: str = ""
    """Why `value` or `se` is None, empty otherwise."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Shares worth a look, e.g. `clipped_share`; fractions."""
    psi: np.ndarray | None = None
    """float64[units]: influence values (value - truth is about their mean); they sum to 0."""
    clusters: Clusters | None = None
    """Clusters of the units of `psi`: rows, or users for GAUC."""

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Two-sided interval at `level`, None where the value or its error is undefined."""
        return self.bounds((1 - level) / 2)

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """One-sided lower and upper bound, each wrong with probability `alpha`."""
        if self.value is None or self.se is None:
            return None
        reach = quantile(1 - alpha, self.n_clusters) * self.se
        return self.value - reach, self.value + reach

    def as_json(self) -> dict[str, Any]:
        """The numbers at full precision; None where undefined, never NaN."""
        numbers = {
            "value": self.value,
            "se": self.se,
            "n": self.n,
            "n_pos": self.n_pos,
            "n_clusters": self.n_clusters,
        }
        reason = {"reason": self.reason} if self.reason else {}
        return {**numbers, **self.extra, **reason}


def estimate(
    value: float,
    psi: np.ndarray,
    clusters: Clusters,
    labels: np.ndarray,
    extra: Mapping[str, float] | None = None,
) -> Estimate:
    """Estimate on all rows of `labels`, with the standard error from `psi`.

    Args:
        value: the metric.
        psi: float64[n], its influence values.
        clusters: of the same n rows.
        labels: bool[n].
        extra: shares to report along with it.
    """
    se = cluster_se(psi, clusters)
    return Estimate(
        value=value,
        se=se,
        n=len(labels),
        n_pos=int(np.count_nonzero(labels)),
        n_clusters=clusters.count,
        reason="" if se is not None else "one cluster: no standard error",
        extra=extra or {},
        psi=psi,
        clusters=clusters,
    )


def undefined(reason: str, labels: np.ndarray, clusters: Clusters) -> Estimate:
    """An estimate without a value, and why."""
    n_pos = int(np.count_nonzero(labels))
    return Estimate(None, None, len(labels), n_pos, clusters.count, reason)


def unusable(scores: np.ndarray, labels: np.ndarray, *, both_classes: bool) -> str:
    """Why no metric can be computed on these rows; empty when it can."""
    if len(scores) == 0:
        return "no observed row"
    not_finite = np.count_nonzero(~np.isfinite(scores))
    if not_finite:
        return f"{not_finite} predictions are not finite"
    if both_classes and not labels.any():
        return "no positive row"
    if both_classes and labels.all():
        return "no negative row"
    return ""


def difference(challenger: Estimate, champion: Estimate) -> Estimate:
    """Paired difference, challenger minus champion, of two models on the same rows.

    The influence values subtract row by row, so what the models share (labels,
    easy users) cancels out of the standard error.

    Raises:
        ValueError: if the two rest on different numbers of rows or users.
    """
    for side, part in (("challenger", challenger), ("champion", champion)):
        if part.value is None:
            reason = f"{side}: {part.reason}"
            return Estimate(None, None, part.n, part.n_pos, part.n_clusters, reason)
    assert challenger.value is not None and champion.value is not None
    psi_b, psi_a, clusters = challenger.psi, champion.psi, challenger.clusters
    if psi_b is None or psi_a is None or clusters is None or len(psi_b) != len(psi_a):
        raise ValueError(
            f"challenger rests on {challenger.n} rows, champion on {champion.n}, or influence "
            "values were dropped; a paired difference needs those of both models on the same rows"
        )
    psi = psi_b - psi_a
    se = cluster_se(psi, clusters)
    return Estimate(
        value=challenger.value - champion.value,
        se=se,
        n=challenger.n,
        n_pos=challenger.n_pos,
        n_clusters=challenger.n_clusters,
        reason="" if se is not None else challenger.reason,
        psi=psi,
        clusters=clusters,
    )
