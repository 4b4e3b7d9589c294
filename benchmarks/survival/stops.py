"""Which ads that delivered this week have stopped? Observed stops of the Snap library.

The head learns from the ads of 22 September that were not set to be over: who delivered in the
following days, at which age. It scores those that delivered between 22 and 28 September by the
probability to have stopped by the 28th; what they did until the 29th is the label. Rules know the
same exports. Every score is 1, or highest, where the end that was set has passed.
"""

import numpy as np

from benchmarks.survival.data import normal_scores
from benchmarks.survival.hazard import Recipe, fit_current_status
from benchmarks.survival.snap import COVARIATES, Statuses
from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate

_RECIPE = Recipe(num_intervals=10)


def rules(risk_set: Statuses) -> dict[str, np.ndarray]:
    """Scores float64[n] that need no training, higher stops sooner."""
    ads = risk_set.ads
    before, now = ads["before"].to_numpy(), ads["Impressions"].to_numpy()
    age_before = ads["age_before"].to_numpy()
    week = (now - before) / (risk_set.age - age_before)
    no_end = ads["EndDate"].is_null().to_numpy()
    scores = {
        "set end has passed": np.zeros(len(now)),
        "no end was set": no_end.astype(np.float64),
        "oldest": risk_set.age,
        "fewest impressions this week": -week,
        "this week against life before": -week * age_before / before,
    }
    return {name: _over_first(score, risk_set.is_over) for name, score in scores.items()}


def head_scores(first: Statuses, risk_set: Statuses, seed: int, with_end: bool) -> np.ndarray:
    """Probability float64[n] that each ad at risk has stopped.

    Args:
        first: the ads of 22 September.
        risk_set: the ads of 28 September.
        seed: of the training.
        with_end: whether the end that was set is known besides the eleven covariates.
    """
    columns = slice(None) if with_end else slice(len(COVARIATES))
    open_ads = ~first.is_over
    x = first.x[open_ads, columns]
    scaled = normal_scores(x)
    alive = first.delivers[open_ads]
    model = fit_current_status(scaled(x), first.age[open_ads], alive, _RECIPE, seed)
    age_before = risk_set.ads["age_before"].to_numpy()
    stopped = model.stop_probability(scaled(risk_set.x[:, columns]), age_before, risk_set.age)
    return np.where(risk_set.is_over, 1.0, stopped)


def score_stops(score: np.ndarray, risk_set: Statuses) -> Estimate:
    """AUC of the stops; with one horizon and no censoring it is also C."""
    clusters = Clusters.of(risk_set.ads["OrganizationName"].to_numpy())
    return auc(score, ~risk_set.delivers, clusters=clusters)


def _over_first(score: np.ndarray, is_over: np.ndarray) -> np.ndarray:
    return np.where(is_over, score.max() + 1, score)
