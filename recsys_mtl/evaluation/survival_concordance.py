"""Three concordances of the survival label, over ranges of age.

    short     rows at risk before the boundary age, followed to the day before it
    long      rows at risk from the boundary age on, followed to the end of the grid
    overall   all rows, followed to the end of the grid

The boundary is `creatives.wear_out_age`. Both rows of a pair have the same landmark (our reading):
they know equally much, and hazards of the days before a landmark are never trained. Late entrants
are partners from their entry on. A range's C is that of all its pairs together.

The risk of Harrell's and Uno's C is 1 - RMST / H from the landmark to the end of the range, H days
away: the expected share of that time that is lost. P(stopped within H) would rank badly over long
times, within which nearly everything stops. Antolini's C needs no such scalar. The tie rule of all
is that of `metrics.survival.outcomes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_mtl.evaluation.survival_rows import Lives, SurvivalRows
from recsys_mtl.metrics.survival.concordance import harrell_c, largest
from recsys_mtl.metrics.survival.curves import StepCurve, reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.metrics.survival.time_dependent import antolini_c

CENSORING_FLOOR = 0.05
TOP_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class AgeRange:
    """Rows whose entry is in [first, end), and their stops before `end`; days of age."""

    name: str
    first: int
    end: int


def age_ranges(boundary: int, end: int) -> tuple[AgeRange, ...]:
    """Short, long and overall.

    Args:
        boundary: first age of wear-out.
        end: of the grid.
    """
    short = AgeRange("short", 0, min(boundary, end))
    return short, AgeRange("long", boundary, end), AgeRange("overall", 0, end)


@dataclass(frozen=True, slots=True, eq=False)
class Censoring:
    """G, by which share rows of a landmark are still uncensored; from training rows."""

    curves: Mapping[int, StepCurve]

    @classmethod
    def of(cls, train: Lives) -> "Censoring":
        """Curves of all landmarks that have training rows."""
        last = int(train.exit.max(initial=0))
        return cls(
            {
                landmark: reverse_kaplan_meier(
                    train.take(train.landmark == landmark).until(last + 1)
                )
                for landmark in np.unique(train.landmark).tolist()
            }
        )

    def before(self) -> dict[str, float]:
        """Landmark to the age from which on stops are not used: G would be below its floor."""
        return {str(k): curve.last_above(CENSORING_FLOOR) for k, curve in self.curves.items()}

    def weights(self, lives: Lives) -> np.ndarray:
        """1 / G(exit)^2 of each row, 0 where its stop is not used, float64[n]."""
        factor = np.zeros(len(lives.exit))
        for landmark, curve in self.curves.items():
            used = (lives.landmark == landmark) & (lives.cause > 0)
            used &= lives.exit < curve.last_above(CENSORING_FLOOR)
            factor[used] = curve.inverse(lives.exit[used]) ** 2
        return factor


def concordances(
    rows: SurvivalRows, censoring: Censoring, boundary: int
) -> dict[str, dict[str, Any]]:
    """Range to {harrell, uno, antolini}: value, standard error over clusters, pairs."""
    return {
        span.name: _in_range(rows, censoring, span)
        for span in age_ranges(boundary, rows.curves.end)
    }


def by_landmark(rows: SurvivalRows) -> dict[str, Any]:
    """Landmark to Harrell's C of its rows, followed to the end of the grid; where there is one."""
    found = {}
    span = AgeRange("overall", 0, rows.curves.end)
    for landmark in np.unique(rows.lives.landmark).tolist():
        chosen = rows.take(rows.lives.landmark == landmark)
        value = harrell_c(_risk(chosen, span), chosen.outcomes(), chosen.clusters)
        if value.value is not None:
            found[str(landmark)] = value.as_json()
    return found


def top_sales(rows: SurvivalRows) -> np.ndarray:
    """bool[n]: at each landmark, the quarter of the rows with the most spend before it.

    Sales of whoever delivers ads are what advertisers spend. Sales to come would tell who is not
    stopped; so rows without any spend yet, all of landmark 1 among them, are in no top (our
    reading of "the creatives making the top 25 % of sales").
    """
    chosen = np.zeros(len(rows), bool)
    for landmark in np.unique(rows.lives.landmark):
        at = np.flatnonzero(rows.lives.landmark == landmark)
        chosen[at] = largest(rows.spend[at], TOP_SHARE) & (rows.spend[at] > 0)
    return chosen


def _in_range(rows: SurvivalRows, censoring: Censoring, span: AgeRange) -> dict[str, Any]:
    entry = rows.lives.entry
    chosen = rows.take((entry >= span.first) & (entry < span.end))
    lives = chosen.lives
    outcomes = _apart(lives, span.end)
    risk = _risk(chosen, span)
    times = np.unique(outcomes.time[outcomes.event])
    days = np.broadcast_to(times % span.end, (len(chosen), len(times)))
    alive = chosen.curves.alive(lives.landmark - 1, days)
    weight = censoring.weights(lives)
    return {
        "harrell": harrell_c(risk, outcomes, chosen.clusters).as_json(),
        "uno": harrell_c(risk, outcomes, chosen.clusters, weight).as_json(),
        "antolini": antolini_c(alive, times, outcomes, chosen.clusters).as_json(),
    }


def _risk(rows: SurvivalRows, span: AgeRange) -> np.ndarray:
    """1 - RMST / H from the landmark on, float64[n]."""
    landmark = rows.lives.landmark
    risk: np.ndarray = 1 - rows.curves.days_alive(landmark - 1, span.end) / (span.end - landmark)
    return risk


def _apart(lives: Lives, end: int) -> Outcomes:
    """Outcomes with each landmark's ages set off by a multiple of `end`.

    No row is at risk when one of another landmark stops, so that all pairs are of one landmark,
    and one call counts them with one error. The age is the time modulo `end`.
    """
    shift = end * np.unique(lives.landmark, return_inverse=True)[1]
    outcomes = lives.until(end)
    return Outcomes(outcomes.time + shift, outcomes.event, lives.entry + shift)
