"""Brier scores of survival curves under censoring, at times and integrated."""

from dataclasses import dataclass

import numpy as np

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, estimate, undefined, unusable
from recsys_mtl.metrics.survival.curves import StepCurve
from recsys_mtl.metrics.survival.outcomes import Outcomes


@dataclass(frozen=True, slots=True, eq=False)
class BrierScores:
    """Mean squared error of the predicted survival at each time."""

    times: np.ndarray
    """[m], rising."""
    values: np.ndarray
    """float64[m]; NaN where no row counts."""
    rows: np.ndarray
    """int64[m], rows of positive weight that count at each time."""

    @property
    def integrated(self) -> float:
        """Trapezoid over the times, divided by their range (IBS)."""
        return float(np.dot(_trapezoid(self.times), self.values))


def ipcw_brier(
    survival: np.ndarray, outcomes: Outcomes, times: np.ndarray, censoring: StepCurve
) -> BrierScores:
    """Brier score with inverse-probability-of-censoring weights (Graf).

        BS(x) = 1/n sum_i [ S_i(x)^2 1{t_i <= x, stopped} / G(t_i)
                            + (1 - S_i(x))^2 1{t_i > x} / G(x) ]

    Rows censored by x count nothing. Where launch date or age is a feature the
    censoring time is predictable and these weights can prefer the worse model:
    use `administrative_brier` there.

    Args:
        survival: float[n, m], predicted survival at `times`.
        outcomes: of the same n rows, without late entry.
        times: [m], rising.
        censoring: G, `reverse_kaplan_meier` of the training rows.

    Raises:
        ValueError: with late entry, or where G is 0 or not known at a time that is used.
    """
    if outcomes.entry is not None:
        raise ValueError("censoring weights know no late entry; use administrative_brier")
    _check(survival, outcomes, times)
    mass = outcomes.masses()
    stopped = outcomes.event[:, None] & (outcomes.time[:, None] <= times)
    alive = outcomes.time[:, None] > times
    used = outcomes.event & (outcomes.time <= times[-1]) & (mass > 0)
    at_stop = np.zeros(len(outcomes))
    at_stop[used] = censoring.inverse(outcomes.time[used])
    # G is needed at x only while somebody outlives x.
    at_time = np.zeros(len(times))
    outlived = alive[mass > 0].any(axis=0)
    at_time[outlived] = censoring.inverse(times[outlived])
    loss = np.where(stopped, survival**2 * at_stop[:, None], 0.0)
    loss += np.where(alive, (1 - survival) ** 2 * at_time, 0.0)
    rows = ((stopped | alive) & (mass > 0)[:, None]).sum(axis=0)
    return BrierScores(times, mass @ loss / mass.sum(), rows)


def administrative_brier(
    survival: np.ndarray, outcomes: Outcomes, times: np.ndarray, censor_time: np.ndarray
) -> BrierScores:
    """Brier score over the rows whose censoring time is not before x: no weights needed.

        BS(x) = mean over rows with C_i >= x of (1{not stopped by x} - S_i(x))^2

    With late entry rows count from their entry on. A row lost before its planned
    C_i (campaign ended early) counts only while it was seen.

    Args:
        survival: float[n, m], predicted survival at `times`; given survival to the
            entry, S(x) / S(entry), with late entry.
        outcomes: of the same n rows.
        times: [m], rising.
        censor_time: [n], when each row would be censored if it did not stop: the planned end.
            A row censored exactly at x counts as alive there.

    Raises:
        ValueError: if shapes disagree or a row exits after its censoring time.
    """
    used, loss = _administrative_loss(survival, outcomes, times, censor_time)
    mass = outcomes.masses()[:, None] * used
    with np.errstate(invalid="ignore"):
        values = (mass * loss).sum(axis=0) / mass.sum(axis=0)
    return BrierScores(times, values, (mass > 0).sum(axis=0))


def administrative_ibs(
    survival: np.ndarray,
    outcomes: Outcomes,
    times: np.ndarray,
    censor_time: np.ndarray,
    clusters: Clusters | None = None,
) -> Estimate:
    """Integrated administrative Brier score with its cluster-robust standard error.

    With a_x the share of time x in the trapezoid and p_x the share of rows
    that count there,

        psi_i = sum_x a_x 1{i counts at x} / p_x (loss_i(x) - BS(x))

    Args:
        survival: as for `administrative_brier`.
        outcomes: of the same n rows.
        times: [m], rising.
        censor_time: [n].
        clusters: of the n rows; independent rows when absent.
    """
    clusters = clusters or Clusters.singletons(len(outcomes))
    reason = unusable(survival, outcomes.event, both_classes=False)
    if reason:
        return undefined(reason, outcomes.event, clusters)
    used, loss = _administrative_loss(survival, outcomes, times, censor_time)
    mass = outcomes.masses()[:, None] * used
    share = mass.sum(axis=0) / len(outcomes)
    if not share.all():
        empty = times[share == 0][0]
        return undefined(f"no row is known at time {empty:g}", outcomes.event, clusters)
    values = (mass * loss).mean(axis=0) / share
    psi = (mass * (loss - values) / share) @ _trapezoid(times)
    return estimate(float(np.dot(_trapezoid(times), values)), psi, clusters, outcomes.event)


def _administrative_loss(
    survival: np.ndarray, outcomes: Outcomes, times: np.ndarray, censor_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """bool[n, m] which rows are known at which time, and their squared errors."""
    _check(survival, outcomes, times)
    if late := np.count_nonzero(outcomes.time > censor_time):
        raise ValueError(f"{late} rows exit after their censoring time; expected time <= it")
    exits = outcomes.time[:, None]
    stopped = outcomes.event[:, None] & (exits <= times)
    used = (censor_time[:, None] >= times) & (stopped | (exits >= times))
    if outcomes.entry is not None:
        used &= outcomes.entry[:, None] <= times
    return used, (~stopped - survival) ** 2


def _check(survival: np.ndarray, outcomes: Outcomes, times: np.ndarray) -> None:
    if survival.shape != (len(outcomes), len(times)):
        raise ValueError(
            f"survival has shape {survival.shape}; expected one row per outcome and one column "
            f"per time, {(len(outcomes), len(times))}"
        )
    if not (np.diff(times) > 0).all():
        raise ValueError("times must rise")


def _trapezoid(times: np.ndarray) -> np.ndarray:
    """float64[m]: share of each time in the mean over the range; they sum to 1."""
    if len(times) == 1:
        return np.ones(1)
    gaps = np.diff(times)
    shares: np.ndarray = (np.append(gaps, 0) + np.append(0, gaps)) / (2 * gaps.sum())
    return shares
