"""Harrell's and Uno's concordance on exact times, in O(n log n)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable
from recsys_mtl.metrics.ranks import run_starts
from recsys_mtl.metrics.survival.curves import StepCurve
from recsys_mtl.metrics.survival.merge_tree import lower_before
from recsys_mtl.metrics.survival.outcomes import Outcomes

CENSORED, STOPPED, ENTERED = 0, 1, 2
"""Kinds of sweep elements, in their order at one time."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Comparable pairs by how the risks order them; whole numbers without weights."""

    concordant: float
    discordant: float
    tied: float
    """Pairs of equal risk."""
    pairs: int
    """Comparable pairs of positive weight, each counted once."""

    @property
    def total(self) -> float:
        """Weight of all comparable pairs."""
        return self.concordant + self.discordant + self.tied

    @property
    def value(self) -> float:
        """C = (concordant + tied / 2) / total; NaN without a comparable pair."""
        return (self.concordant + 0.5 * self.tied) / self.total if self.total else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """Elements by falling time, so that the partners of a stop stand before it.

    A row is one element at its exit and, with late entry, one at its entry that
    takes its weight out again: a stop before the entry does not meet the row. At
    one time come the censored, then the stops by falling risk, then the entries.
    """

    row: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    risk: np.ndarray
    partner: np.ndarray
    """Weight as the longer-lived of a pair; negative at entries."""
    stopper: np.ndarray
    """Weight as the stopped of a pair; 0 unless a stop."""

    @classmethod
    def of(cls, risk: np.ndarray, outcomes: Outcomes, event_weight: np.ndarray | None) -> "_Sweep":
        mass, risk = outcomes.masses(), risk.astype(np.float64)
        row = np.arange(len(outcomes))
        kind = np.where(outcomes.event, STOPPED, CENSORED).astype(np.int8)
        time, partner = outcomes.time, mass
        stopper = np.where(outcomes.event, mass, 0)
        if event_weight is not None:
            stopper = stopper * event_weight
        if outcomes.entry is not None:
            time = np.concatenate([time, outcomes.entry])
            kind = np.concatenate([kind, np.full(len(row), ENTERED, np.int8)])
            partner = np.concatenate([mass, -mass])
            stopper = np.concatenate([stopper, np.zeros_like(stopper)])
            row, risk = np.tile(row, 2), np.tile(risk, 2)
        order = np.lexsort((-risk, kind, -time))
        return cls(*(part[order] for part in (row, time, kind, risk, partner, stopper)))

    def mirrored(self) -> "_Sweep":
        """The other end's view: stops stand before their partners and higher risk is lower."""
        ends = (self.row, self.time, self.kind, -self.risk, self.stopper, self.partner)
        return _Sweep(*(part[::-1] for part in ends))

    def total(self, weight: np.ndarray) -> np.ndarray:
        """Weight before each element, that of its own time and kind left out."""
        starts = run_starts(self.time, self.kind)
        running = np.cumsum(weight) - weight
        return np.repeat(running[starts], np.diff(starts, append=len(weight)))

    def lower(self) -> np.ndarray:
        """Partner weight before each element, of lower risk."""
        last = len(self.risk) - 1
        by_risk = last - np.argsort(self.risk[::-1], kind="stable")
        return lower_before(by_risk, self.partner)

    def tied(self) -> np.ndarray:
        """Partner weight before each element, of equal risk, not of its own time and kind."""
        by_risk = np.argsort(self.risk, kind="stable")
        risk, weight = self.risk[by_risk], self.partner[by_risk]
        running = np.cumsum(weight) - weight
        groups, runs = run_starts(risk), run_starts(risk, self.time[by_risk], self.kind[by_risk])
        before_group = np.repeat(running[groups], np.diff(groups, append=len(risk)))
        before_run = np.repeat(running[runs], np.diff(runs, append=len(risk)))
        tied = np.empty_like(weight)
        tied[by_risk] = before_run - before_group
        return tied


def count_pairs(
    risk: np.ndarray, outcomes: Outcomes, event_weight: np.ndarray | None = None
) -> PairCounts:
    """Exact counts of concordant, discordant and tied pairs; any times, rule of `outcomes`.

    Args:
        risk: float64[n], higher stops sooner.
        outcomes: of the same n rows.
        event_weight: float64[n], further factor of the pairs in which the row is the stopped one.

    Returns:
        The counts. O(n log n) time, O(n) memory.

    Raises:
        ValueError: if a risk is not finite.
    """
    if not np.isfinite(risk).all():
        raise ValueError("risk has values that are not finite; drop those rows")
    if not outcomes.event.any():
        return PairCounts(0, 0, 0, 0)
    return _counts(_Sweep.of(risk, outcomes, event_weight))


def _counts(sweep: _Sweep) -> PairCounts:
    stops = sweep.stopper != 0
    weight = sweep.stopper[stops]
    concordant, tied, total = (
        np.dot(weight, part[stops]).item()
        for part in (sweep.lower(), sweep.tied(), sweep.total(sweep.partner))
    )
    rows = sweep.total(np.sign(sweep.partner).astype(np.int64))
    return PairCounts(concordant, total - concordant - tied, tied, int(rows[stops].sum()))


def harrell_c(
    risk: np.ndarray,
    outcomes: Outcomes,
    clusters: Clusters | None = None,
    event_weight: np.ndarray | None = None,
) -> Estimate:
    """Harrell's C with its cluster-robust standard error; Uno's with his weights.

    Influence value of row k, over all pairs it is in, on either side, with pair
    weight w, h = 1, 1/2, 0 for concordant, tied, discordant and W the weight of
    all pairs:

        psi_k = n / W  sum_{pairs of k} w (h - C)

    Two models on the same rows are compared by `estimate.difference`.

    Args:
        risk: float64[n], higher stops sooner.
        outcomes: of the same n rows.
        clusters: of the n rows (campaigns); independent rows when absent.
        event_weight: float64[n], further factor of the pairs in which the row is the stopped one
            (`uno_c`); the standard error takes it as known.

    Returns:
        The estimate, with `pairs` and `tied_share`. O(n log n).
    """
    clusters = clusters or Clusters.singletons(len(outcomes))
    reason = unusable(risk, outcomes.event, both_classes=False)
    sweep = None if reason else _Sweep.of(risk, outcomes, event_weight)
    counts = _counts(sweep) if sweep else PairCounts(0, 0, 0, 0)
    if sweep is None or not counts.total:
        return undefined(reason or "no comparable pair", outcomes.event, clusters)
    psi = np.zeros(len(outcomes))
    for side in (sweep, sweep.mirrored()):
        beaten = side.lower() + 0.5 * side.tied() - counts.value * side.total(side.partner)
        psi += np.bincount(side.row, weights=side.stopper * beaten, minlength=len(psi))
    psi *= len(psi) / counts.total
    extra = {"pairs": counts.pairs, "tied_share": counts.tied / counts.total}
    return estimate(counts.value, psi, clusters, outcomes.event, extra)


def harrell_c_on(
    subsets: Mapping[str, np.ndarray],
    risk: np.ndarray,
    outcomes: Outcomes,
    clusters: Clusters | None = None,
) -> dict[str, Estimate]:
    """Harrell's C within each named subset; both rows of a pair are in it.

    Args:
        subsets: name -> bool[n], e.g. overall, young, `largest(sales, .25)`.
        risk: float64[n], higher stops sooner.
        outcomes: of the same n rows.
        clusters: of the n rows; independent rows when absent.
    """
    clusters = clusters or Clusters.singletons(len(outcomes))
    return {
        name: harrell_c(risk[rows], outcomes.take(rows), clusters.take(rows))
        for name, rows in subsets.items()
    }


def largest(values: np.ndarray, share: float) -> np.ndarray:
    """bool[n]: the `share` of rows with the largest values, those tied with the last included.

    "The creatives making the top 25 % of sales" is read so (our reading): a
    quarter of the creatives, not the few that make a quarter of the sales.
    """
    place = len(values) - max(int(np.ceil(share * len(values))), 1)
    chosen: np.ndarray = values >= np.partition(values, place)[place]
    return chosen


def uno_c(risk: np.ndarray, outcomes: Outcomes, censoring: StepCurve, before: float) -> PairCounts:
    """Uno's C: pairs weighted by 1 / G(t_i)^2, stops before a limit only.

    Args:
        risk: float64[n], higher stops sooner.
        outcomes: of the same n rows.
        censoring: G, `reverse_kaplan_meier` of the training rows, read right-continuously.
        before: stops at this time or later are not used (tau); `censoring.last_above(.05)`
            keeps the weights bounded.

    Returns:
        Weighted counts, with the number of pairs.

    Raises:
        ValueError: if G is 0, or not known, at the time of a stop that is used.
    """
    used = outcomes.event & (outcomes.time < before) & (outcomes.masses() > 0)
    factor = np.zeros(len(outcomes))
    factor[used] = censoring.inverse(outcomes.time[used]) ** 2
    return count_pairs(risk, outcomes, factor)
