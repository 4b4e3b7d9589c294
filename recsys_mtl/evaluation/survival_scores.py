"""Are the survival label's probabilities right? Brier scores, D-calibration, stops within H days.

Days count from the entry of a row, which is known to be alive then: S(t) / S(entry).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_mtl.evaluation.survival_rows import Curves, Lives, SurvivalRows
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import difference
from recsys_mtl.metrics.survival.bootstrap import cluster_bootstrap
from recsys_mtl.metrics.survival.brier import administrative_ibs
from recsys_mtl.metrics.survival.calibration import d_calibration, within_interval
from recsys_mtl.metrics.survival.curves import ROUNDING, aalen_johansen, kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes

NUM_REPLICATES = 200
_KNOWN_SHARE = 0.05
"""Of the rows that must be followed by plan to the last day of the integrated Brier score."""
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """Rows as far as it was known beforehand that they would be followed; days from entry."""

    outcomes: Outcomes
    censor: np.ndarray
    """int64[n], last day on which the row would be seen."""

    @classmethod
    def of(cls, rows: SurvivalRows) -> "_Planned":
        """Until the log ends, the campaign's end as planned at the landmark, or the grid ends.

        A plan that was over before the entry is none.
        """
        lives, since = rows.lives, rows.lives.entry - 1
        entry_day = rows.day + lives.entry - lives.landmark
        last_day = (entry_day + lives.exit - lives.entry).max()
        censor = np.minimum(last_day - entry_day + 1, rows.curves.end - lives.entry)
        planned = rows.planned_end - since
        censor = np.where(planned > 0, np.minimum(censor, planned), censor)
        seen = lives.exit - since
        outcomes = Outcomes(np.minimum(seen, censor), (lives.cause > 0) & (seen <= censor))
        return cls(outcomes, censor)

    def is_known(self, days: int) -> np.ndarray:
        """Rows of which it is known whether they are alive after so many days, bool[n]."""
        seen: np.ndarray = self.outcomes.event | (self.outcomes.time >= days)
        return seen & (self.censor >= days)


def brier_scores(rows: SurvivalRows, train: Lives, horizons: Sequence[int]) -> dict[str, Any]:
    """Administrative Brier scores of the model and of the marginal curve of training rows.

    Args:
        rows: evaluated; at least one.
        train: rows that the marginal curve, Kaplan-Meier by age with late entry, is made of.
        horizons: H in days.

    Returns:
        `horizons`: H to {model, kaplan_meier, difference, rows}, and the same integrated over days
        1 to `days` as `integrated`; the difference is model minus marginal, below 0 when better,
        and `rows` those that count on the last day. `lost_early` rows, as by a pause, were not
        followed to their plan; they count while they were seen.
    """
    planned, end = _Planned.of(rows), rows.curves.end
    marginal = Curves.marginal(kaplan_meier(train.until(end)), len(rows), end)

    def compared(times: np.ndarray) -> dict[str, Any]:
        since = rows.lives.entry - 1
        model, base = (
            administrative_ibs(
                curves.alive(since, since[:, None] + times),
                planned.outcomes,
                times,
                planned.censor,
                rows.clusters,
            )
            for curves in (rows.curves, marginal)
        )
        both = {"model": model, "kaplan_meier": base, "difference": difference(model, base)}
        num_rows = {"rows": int(planned.is_known(times[-1]).sum())}
        return {name: value.as_json() for name, value in both.items()} | num_rows

    last = int(np.quantile(planned.censor, 1 - _KNOWN_SHARE, method="lower"))
    is_lost = ~planned.outcomes.event & (planned.outcomes.time < planned.censor)
    return {
        "lost_early": int(is_lost.sum()),
        "horizons": {str(days): compared(np.array([days])) for days in horizons},
        "integrated": {"days": last, **compared(np.arange(1, last + 1))},
    }


def d_calibrated(rows: SurvivalRows) -> dict[str, Any]:
    """D-calibration of the first row of each creative: rows of several landmarks tell it again.

    Survival at a stop is drawn between the start and the end of its day, seeded.
    """
    order = np.lexsort((rows.lives.landmark, rows.creative))
    first = order[np.unique(rows.creative[order], return_index=True)[1]]
    rows = rows.take(np.sort(first))
    outcomes, since = rows.outcomes(), rows.lives.entry - 1
    days = np.stack([outcomes.time - 1, outcomes.time], axis=1)
    before, after = rows.curves.alive(since, days).T
    survival = within_interval(before, after, outcomes.event, _SEED)
    found = d_calibration(survival, outcomes.event)
    return {
        "creatives": len(rows),
        "bins": (found.mass / found.mass.sum()).tolist(),
        "largest_deviation": found.largest_deviation,
        "statistic": found.statistic,
        "p_value": found.p_value,
    }


@dataclass(frozen=True, slots=True, eq=False)
class StopsWithin:
    """Predicted and observed shares of n rows that stop within each horizon."""

    lives: Lives
    clusters: Clusters
    predicted: Mapping[int, np.ndarray]
    """H to float64[n, 1 + Q], P(stops within H days of its entry) by any cause and by each."""
    causes: Sequence[str]
    """Empty for a label without causes: Q = 0."""
    end: int
    """Of the grid."""

    def take(self, rows: np.ndarray) -> "StopsWithin":
        """A subset; `rows` is bool[n] or int64[m]."""
        predicted = {days: values[rows] for days, values in self.predicted.items()}
        lives, clusters = self.lives.take(rows), self.clusters.take(rows)
        return StopsWithin(lives, clusters, predicted, self.causes, self.end)

    def calibration(self) -> dict[str, Any]:
        """H to predicted and observed (Aalen-Johansen) share, in all and by cause.

        Standard errors of the observed ones are from a bootstrap of clusters.
        """
        seen = self.lives.until(self.end)
        time = seen.time - self.lives.entry + 1
        cause = np.where(seen.event, self.lives.cause, 0)
        horizons = np.array(list(self.predicted))

        def observed(weight: np.ndarray | None) -> np.ndarray:
            outcomes = Outcomes(time, seen.event, None, weight)
            by_cause = aalen_johansen(outcomes, cause, max(len(self.causes), 1)).at(horizons)
            return np.concatenate([by_cause.sum(axis=0, keepdims=True), by_cause])

        share = observed(None)
        draws = cluster_bootstrap(observed, self.clusters, NUM_REPLICATES, _SEED)
        spread = draws.std(axis=0, ddof=1) if self.clusters.count > 1 else None
        report = {}
        for k, days in enumerate(self.predicted):
            # A curve at 0 stays there.
            if time.max(initial=0) < days and share[0, k] < 1 - ROUNDING:
                reason = {"reason": f"no row is followed for {days} days"}
                report[str(days)] = {"rows": len(time), **reason}
                continue
            cells = [
                {
                    "predicted": float(self.predicted[days][:, q].mean()),
                    "observed": float(share[q, k]),
                    "se": None if spread is None else float(spread[q, k]),
                }
                for q in range(1 + len(self.causes))
            ]
            causes = dict(zip(self.causes, cells[1:], strict=True))
            report[str(days)] = {"rows": len(time), **cells[0], "causes": causes}
        return report
