"""What is there without the head: a constant hazard, rules on the click rate, linear Cox."""

import numpy as np
import pyarrow as pa

from benchmarks.ads.features import Matrices, score_columns
from benchmarks.ads.measure import EDGES, SCOPES, Hazards, LandmarkRows
from benchmarks.survival.cox import fit_cox
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.objectives.hazard import marginal_logits

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


def cox(rows: pa.Table, matrices: Matrices) -> Risks:
    """Linear Cox, one for each landmark, on rows at risk from their landmark on.

    Covariates: image, genre, counts, and a number each for title and advertiser.

    Args:
        rows: of train and test.
        matrices: of the same rows.

    Returns:
        Risks of the test rows, in their order.
    """
    part = np.array(rows["part"].to_pylist())
    landmark, entry = rows["landmark"].to_numpy(), rows["entry"].to_numpy()
    risk = np.full(len(part), np.nan)
    for age in np.unique(landmark[part == "test"]):
        at = np.flatnonzero(landmark == age)
        risk[at] = _of_landmark(rows.take(pa.array(at)), matrices.take(at), entry[at] == age)
    return dict.fromkeys(SCOPES, risk[part == "test"])


def _of_landmark(rows: pa.Table, matrices: Matrices, on_time: np.ndarray) -> np.ndarray:
    train = (np.array(rows["part"].to_pylist()) == "train") & on_time
    scores = score_columns(rows, matrices, train)
    x = np.column_stack([matrices.image, matrices.genre[:, 1:], scores, matrices.counts])
    x = x[:, x[train].std(axis=0) > 0]
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    exit_, stopped = rows["exit"].to_numpy(), rows["stopped"].to_numpy() > 0
    time = exit_ - rows["entry"].to_numpy() + 1
    return fit_cox(x[train], Outcomes(time[train], stopped[train])).risk(x)
