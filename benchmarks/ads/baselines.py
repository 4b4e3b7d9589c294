"""What is there without the head: a constant hazard, rules on the click rate, linear Cox."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.ads.features import Matrices, score_columns
from benchmarks.ads.measure import EDGES, SCOPES, TEST_DAYS, Hazards, LandmarkRows
from benchmarks.survival.cox import fit_cox
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.objectives.hazard import marginal_logits
from recsys_mtl.simulate.ads_hazards import WEAR_OUT_AGE

Risks = dict[str, np.ndarray]
"""Scope -> risk float64[n] of the test rows."""


def constant(rows: pa.Table, num_test: int) -> Hazards:
    """The marginal hazards of the train rows for each of `num_test` rows."""
    train = np.array(rows["part"].to_pylist()) == "train"
    days, events = LandmarkRows.of(rows.filter(pa.array(train))).exposures(EDGES)
    z = marginal_logits(days.sum(0), events.sum(0))
    return Hazards(z.expand(num_test, -1, -1), EDGES)


def rules(test: pa.Table, counts: np.ndarray) -> tuple[Risks, Risks]:
    """Stop the lowest click rate first: as it is, smoothed against the genre's; 0 and 1 if unknown.

    Args:
        test: rows.
        counts: `Matrices.counts` of the same rows.
    """
    rate = test["clicks"].to_numpy() / np.maximum(test["impressions"].to_numpy(), 1)
    return dict.fromkeys(SCOPES, -rate), dict.fromkeys(SCOPES, -counts[:, 2])


Horizons = dict[str, int]
"""Scope -> days within which risks are compared, at one landmark."""
Fitted = Callable[[np.ndarray, Outcomes, np.ndarray, Horizons], Risks]
"""Covariates and outcomes that teach, covariates that are asked, horizons -> risks of these."""


def cox(rows: pa.Table, matrices: Matrices) -> Risks:
    """Linear Cox of each landmark (`by_landmark`)."""

    def fitted(x: np.ndarray, outcomes: Outcomes, of: np.ndarray, _: Horizons) -> Risks:
        return dict.fromkeys(SCOPES, fit_cox(x, outcomes).risk(of))

    return by_landmark(rows, matrices, fitted)


def by_landmark(rows: pa.Table, matrices: Matrices, fitted: Fitted) -> Risks:
    """A model for each landmark, on rows at risk from their landmark on.

    Covariates, standardised: image, genre, counts, the columns of `ingest.peers`, and a number each
    for title and advertiser.

    Args:
        rows: of train and test.
        matrices: of the same rows.
        fitted: the model.

    Returns:
        Risks of the test rows, in their order.
    """
    part = np.array(rows["part"].to_pylist())
    landmark, entry = rows["landmark"].to_numpy(), rows["entry"].to_numpy()
    found = {scope: np.full(len(part), np.nan) for scope in SCOPES}
    for age in np.unique(landmark[part == "test"]):
        at = np.flatnonzero(landmark == age)
        some, on_time = rows.take(pa.array(at)), entry[at] == age
        train, tested = (part[at] == "train") & on_time, part[at] == "test"
        x = _covariates(some, matrices.take(at), train)
        time = some["exit"].to_numpy() - entry[at] + 1
        outcomes = Outcomes(time[train], some["stopped"].to_numpy()[train] > 0)
        short = max(WEAR_OUT_AGE - int(age), 1)
        horizons = {"short": short, "long": TEST_DAYS, "overall": TEST_DAYS}
        for scope, risk in fitted(x[train], outcomes, x[tested], horizons).items():
            found[scope][at[tested]] = risk
    return {scope: risk[part == "test"] for scope, risk in found.items()}


def _covariates(rows: pa.Table, matrices: Matrices, train: np.ndarray) -> np.ndarray:
    scores = score_columns(rows, matrices, train)
    x = np.column_stack(
        [matrices.image, matrices.genre[:, 1:], scores, matrices.counts, matrices.peers]
    )
    x = x[:, x[train].std(axis=0) > 0]
    found: np.ndarray = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    return found
