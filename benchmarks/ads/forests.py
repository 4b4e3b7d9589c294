"""Random survival forest and gradient boosting of scikit-survival, where it is installed.

`make oracles` installs it into an environment of its own; it is GPL-3, so nothing else imports it.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import pyarrow as pa

from benchmarks.ads.baselines import Fitted, Horizons, Risks, by_landmark
from benchmarks.ads.features import Matrices
from benchmarks.ads.measure import SCOPES
from recsys_mtl.metrics.survival.outcomes import Outcomes

FOREST, BOOSTING = "random survival forest", "gradient boosting (Cox loss)"
MAX_ROWS = 3_000
"""Train rows of a landmark, at most: boosting compares all pairs in every round, and a forest keeps
a curve in every leaf."""


def forests(rows: pa.Table, matrices: Matrices, seed: int) -> dict[str, Callable[[], Risks]]:
    """Both models by landmark, on the covariates of Cox; none without scikit-survival.

    Args:
        rows: of train and test.
        matrices: of the same rows.
        seed: of trees and of the choice among train rows.
    """
    if find_spec("sksurv") is None:
        return {}
    models: dict[str, Fitted] = {
        FOREST: lambda *given: _forest(seed, *given),
        BOOSTING: lambda *given: _boosting(seed, *given),
    }
    return {name: partial(by_landmark, rows, matrices, fitted) for name, fitted in models.items()}


def _forest(
    seed: int, x: np.ndarray, outcomes: Outcomes, of: np.ndarray, horizons: Horizons
) -> Risks:
    """1 - RMST / H by its curves: its own score, a sum over all ages, is mostly of late stops."""
    from sksurv.ensemble import RandomSurvivalForest

    chosen = _chosen(seed, len(x))
    forest = RandomSurvivalForest(n_estimators=100, min_samples_leaf=15, random_state=seed)
    forest.fit(x[chosen], _target(outcomes.take(chosen)))
    alive = forest.predict_survival_function(of, return_array=True)
    # S after k days, k = 0, 1, ...
    place = np.searchsorted(forest.unique_times_, np.arange(max(horizons.values())), "right")
    curve = np.hstack([np.ones((len(of), 1)), alive])[:, place]
    return {scope: 1 - curve[:, :days].sum(axis=1) / days for scope, days in horizons.items()}


def _boosting(seed: int, x: np.ndarray, outcomes: Outcomes, of: np.ndarray, _: Horizons) -> Risks:
    """Its log hazard ratio, one for all horizons."""
    from sksurv.ensemble import GradientBoostingSurvivalAnalysis

    chosen = _chosen(seed, len(x))
    model = GradientBoostingSurvivalAnalysis(
        n_estimators=100, max_depth=3, subsample=0.5, random_state=seed
    )
    model.fit(x[chosen], _target(outcomes.take(chosen)))
    return dict.fromkeys(SCOPES, model.predict(of))


def _chosen(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size)[:MAX_ROWS]


def _target(outcomes: Outcomes) -> np.ndarray:
    """Events and times as scikit-survival takes them."""
    y = np.empty(len(outcomes.time), [("event", bool), ("time", float)])
    y["event"], y["time"] = outcomes.event, outcomes.time
    return y
