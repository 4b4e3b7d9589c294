"""Exact concordance on time intervals: Harrell's C in O(n log n + n J), Antolini's td-C."""

from collections.abc import Iterator

import numpy as np

from recsys_mtl.metrics.ranks import run_starts
from recsys_mtl.metrics.survival.concordance import PairCounts
from recsys_mtl.metrics.survival.outcomes import Outcomes


def count_pairs_bucketed(
    risk: np.ndarray,
    outcomes: Outcomes,
    num_buckets: int,
    event_weight: np.ndarray | None = None,
) -> PairCounts:
    """The counts of `concordance.count_pairs` when times are few interval numbers.

    Rows are sorted by risk once; for each interval, running sums over its
    partners, read at both ends of a stop's group of equal risk, give the lower
    and the tied ones.

    Args:
        risk: float64[n] or float32[n], higher stops sooner.
        outcomes: of the same n rows, time and entry in 0 .. J - 1.
        num_buckets: J.
        event_weight: float64[J], further factor of the pairs of stops in an interval (Uno).

    Returns:
        The counts. O(n log n + n J) time, O(n) memory.

    Raises:
        ValueError: if a risk is not finite or a time is no interval number.
    """
    outcomes.check_buckets(num_buckets)
    if not np.isfinite(risk).all():
        raise ValueError("risk has values that are not finite; drop those rows")
    if not len(risk):
        return PairCounts(0, 0, 0, 0)
    order = np.argsort(risk)
    starts = run_starts(risk[order])
    lengths = np.diff(starts, append=len(risk))
    group_start = np.repeat(starts, lengths)
    group_end = np.repeat(starts + lengths, lengths)
    found = PairCounts(0, 0, 0, 0)
    ordered = outcomes.take(order)
    mass = ordered.masses()
    running = np.zeros(len(risk) + 1, mass.dtype)
    for bucket, stops, partners in _intervals(ordered, num_buckets):
        masked = partners if outcomes.weight is None else np.where(partners, mass, 0)
        np.cumsum(masked, dtype=mass.dtype, out=running[1:])
        lower = running[group_start[stops]]
        up_to_tied = running[group_end[stops]]
        part = _interval_counts(mass, stops, partners, (lower, up_to_tied))
        found = _plus(found, part, 1 if event_weight is None else event_weight[bucket].item())
    return found


def count_pairs_td(
    survival: np.ndarray, outcomes: Outcomes, event_weight: np.ndarray | None = None
) -> PairCounts:
    """Antolini's time-dependent concordance: a stop at t is compared by the curves at t.

    Pairs as in `outcomes`; concordant when S_i(t_i) < S_j(t_i), equal values count
    one half. pycox counts them 0 (`concordant / total` here). With proportional
    hazards and no ties it equals Harrell's C.

    Args:
        survival: float[n, J], survival at the end of each interval, of all rows from the
            same origin (not from their entries).
        outcomes: of the same n rows, time and entry in 0 .. J - 1.
        event_weight: float64[J], further factor of the pairs of stops in an interval.

    Returns:
        The counts. O(J n log n) time, O(n) memory.

    Raises:
        ValueError: if a value is not finite or a time is no interval number.
    """
    outcomes.check_buckets(survival.shape[1])
    if not np.isfinite(survival).all():
        raise ValueError("survival has values that are not finite; drop those rows")
    found = PairCounts(0, 0, 0, 0)
    mass = outcomes.masses()
    for bucket, stops, partners in _intervals(outcomes, survival.shape[1]):
        curve = survival[:, bucket]
        rows = np.flatnonzero(partners)
        rows = rows[np.argsort(-curve[rows])]
        # Sorted needles keep the binary searches in cache.
        stops = stops[np.argsort(-curve[stops])]
        running = np.concatenate([[0], np.cumsum(mass[rows])])
        sides = tuple(
            running[np.searchsorted(-curve[rows], -curve[stops], side)]
            for side in ("left", "right")
        )
        part = _interval_counts(mass, stops, partners, sides)
        found = _plus(found, part, 1 if event_weight is None else event_weight[bucket].item())
    return found


def _intervals(
    outcomes: Outcomes, num_buckets: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Intervals with stops: number, int64[s] rows stopped in it, bool[n] their partners."""
    # Two bytes a row are read J times, not eight.
    narrow = np.int16 if num_buckets < 2**13 else np.int64
    place: np.ndarray = 2 * outcomes.time.astype(narrow) + ~outcomes.event
    entry: np.ndarray | None = None if outcomes.entry is None else outcomes.entry.astype(narrow)
    for bucket in range(num_buckets):
        stops = np.flatnonzero(place == 2 * bucket)
        if not len(stops):
            continue
        partners = place > 2 * bucket
        if entry is not None:
            partners &= entry <= bucket
        yield bucket, stops, partners


def _interval_counts(
    mass: np.ndarray,
    stops: np.ndarray,
    partners: np.ndarray,
    running: tuple[np.ndarray, ...],
) -> PairCounts:
    """Counts of one interval; `running` holds the lower, and the lower and tied, partner mass."""
    lower, up_to_tied = running
    weight = mass[stops]
    concordant = np.dot(weight, lower).item()
    tied = np.dot(weight, up_to_tied).item() - concordant
    total = (weight.sum() * mass[partners].sum()).item()
    rows = int(np.count_nonzero(weight)) * int(np.count_nonzero(mass[partners]))
    return PairCounts(concordant, total - concordant - tied, tied, rows)


def _plus(found: PairCounts, part: PairCounts, factor: float) -> PairCounts:
    if not factor:
        return found
    return PairCounts(
        found.concordant + factor * part.concordant,
        found.discordant + factor * part.discordant,
        found.tied + factor * part.tied,
        found.pairs + part.pairs,
    )
