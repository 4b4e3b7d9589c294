"""Antolini's time-dependent concordance with its standard error."""

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable
from recsys_mtl.metrics.survival.outcomes import Outcomes


def antolini_c(
    survival: np.ndarray,
    times: np.ndarray,
    outcomes: Outcomes,
    clusters: Clusters | None = None,
) -> Estimate:
    """The C of `bucketed.count_pairs_td` at given times, with its cluster-robust standard error.

    A stop at time x is compared by the curves at x. Influence values are those of
    `concordance.harrell_c`, with h = 1, 1/2, 0 for S_i(x) below, at, above S_j(x).

    Args:
        survival: float[n, m], survival at `times`, of all rows that are compared from one origin.
        times: [m], rising; every time at which a row stops.
        outcomes: of the same n rows.
        clusters: of the n rows (campaigns); independent rows when absent.

    Returns:
        The estimate, with `pairs` and `tied_share`. O(m n log n) time, O(n) memory.

    Raises:
        ValueError: if a stop is at none of the times.
    """
    clusters = clusters or Clusters.singletons(len(outcomes))
    if not np.isin(outcomes.time[outcomes.event], times).all():
        raise ValueError("rows stop at times without a survival column")
    reason = unusable(survival, outcomes.event, both_classes=False)
    if reason:
        return undefined(reason, outcomes.event, clusters)
    mass = outcomes.masses()
    # By row and over all pairs that it is in: their weight, and that of the concordant ones.
    met, won = np.zeros(len(outcomes)), np.zeros(len(outcomes))
    tied, pairs = 0.0, 0
    for column, time in enumerate(times.tolist()):
        stops, partners = _pairs_at(outcomes, time)
        pairs += int(np.count_nonzero(mass[stops])) * int(np.count_nonzero(mass[partners]))
        # A stop is right about the partners above it, a partner about the stops below it.
        for own, other, side in ((stops, partners, -1), (partners, stops, 1)):
            curve = side * survival[:, column]
            below, up_to = _weight_below(curve[other], mass[other], curve[own])
            met[own] += mass[own] * mass[other].sum()
            won[own] += mass[own] * (below + up_to) / 2
        tied += np.dot(mass[partners], up_to - below).item()
    total = met.sum() / 2
    if not total:
        return undefined("no comparable pair", outcomes.event, clusters)
    value = won.sum() / 2 / total
    psi = len(outcomes) / total * (won - value * met)
    extra = {"pairs": pairs, "tied_share": tied / total}
    return estimate(float(value), psi, clusters, outcomes.event, extra)


def _pairs_at(outcomes: Outcomes, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stop at a time, and their partners."""
    is_now = outcomes.time == time
    stops = is_now & outcomes.event
    partners = (outcomes.time > time) | (is_now & ~outcomes.event)
    if outcomes.entry is not None:
        partners &= outcomes.entry <= time
    return np.flatnonzero(stops), np.flatnonzero(partners)


def _weight_below(
    values: np.ndarray, mass: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the values below each of `at`, and of those up to it."""
    order = np.argsort(values, kind="stable")
    running = np.concatenate([[0], np.cumsum(mass[order])])
    ordered = values[order]
    return running[np.searchsorted(ordered, at, "left")], running[
        np.searchsorted(ordered, at, "right")
    ]
