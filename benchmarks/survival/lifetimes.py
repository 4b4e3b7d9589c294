"""Models of lifetimes on one split: concordance and Brier score, each beside Cox."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

import numpy as np

from benchmarks.survival.cox import fit_cox
from benchmarks.survival.data import Split, normal_scores, standardiser
from benchmarks.survival.hazard import Recipe, fit_hazard
from recsys_mtl.metrics.estimate import Estimate, difference
from recsys_mtl.metrics.survival.brier import administrative_brier, ipcw_brier
from recsys_mtl.metrics.survival.bucketed import count_pairs_td
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.curves import kaplan_meier, reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes

COX, COX_SCORES, HEAD = "Cox", "Cox on normal scores", "hazard head"
_NUM_TIMES = 100
_CENSORING_FLOOR = 0.05
"""Brier scores end where fewer than this share would still be uncensored."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One model on the test rows."""

    c: Estimate
    """Harrell's, with its error from having these test rows and no others."""
    td_c: float
    """Antolini's."""
    ibs: float


Curves = Callable[[np.ndarray], np.ndarray]
"""Times float64[m] -> survival float64[n_test, m]."""


def score_cox(split: Split, scores: bool) -> Scores:
    """Linear Cox, on standardised covariates or on their normal scores."""
    scaled = split.with_x((normal_scores if scores else standardiser)(split.train.x))
    model = fit_cox(scaled.train.x, scaled.train.outcomes)
    return _score(model.risk(scaled.test.x), lambda t: model.survival(scaled.test.x, t), split)


def score_kaplan_meier(split: Split) -> Scores:
    """The curve of all training rows, for everybody: what covariates have to improve on."""
    curve = kaplan_meier(split.train.outcomes)
    flat = np.zeros(len(split.test))
    return _score(flat, lambda t: np.tile(curve.at(t), (len(flat), 1)), split)


def score_head(split: Split, seed: int) -> Scores:
    """The hazard head on normal scores; risk = 1 - RMST / H, H the longest test time."""
    scaled = split.with_x(normal_scores(split.train.x))
    model = fit_hazard(scaled.train, Recipe(), seed)
    x = scaled.test.x
    risk = model.risk(x, float(np.ceil(split.test.outcomes.time.max())))
    return _score(risk, lambda t: model.survival(x, t), split)


def paired(models: list[Scores], base: Scores) -> tuple[float, float]:
    """Mean difference in C over seeds, and its paired error from having these test rows."""
    found = [difference(model.c, base.c) for model in models]
    return mean(d.value or 0.0 for d in found), mean(d.se or 0.0 for d in found)


def _score(risk: np.ndarray, curves: Curves, split: Split) -> Scores:
    outcomes = split.test.outcomes
    times, place = np.unique(outcomes.time, return_inverse=True)
    pairs = count_pairs_td(curves(times), Outcomes(place, outcomes.event))
    return Scores(harrell_c(risk, outcomes, split.clusters), pairs.value, _ibs(curves, split))


def _ibs(curves: Curves, split: Split) -> float:
    outcomes = split.test.outcomes
    if split.censor_time is not None:
        last = np.quantile(split.censor_time, 1 - _CENSORING_FLOOR)
        times = np.linspace(outcomes.time.min(), last, _NUM_TIMES)
        return administrative_brier(curves(times), outcomes, times, split.censor_time).integrated
    censoring = reverse_kaplan_meier(split.train.outcomes)
    last = min(censoring.last_above(_CENSORING_FLOOR), outcomes.time.max())
    times = np.linspace(outcomes.time.min(), last, _NUM_TIMES, endpoint=False)
    return ipcw_brier(curves(times), outcomes, times, censoring).integrated
