"""Landmark rows of creatives whose daily hazards are known, followed in a log that ends."""

import numpy as np
import pyarrow as pa

from recsys_mtl.evaluation.survival_measures import Measured
from recsys_mtl.evaluation.survival_rows import Curves, Lives, SurvivalRows
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.spec.feature_spec import SurvivalLabel

EDGES = np.array([1, 3, 7, 10, 30, 60])
BASE = np.array([-1.6, -1.8, -1.6, -2.6, -2.0])
"""Logit of a day's hazard in each interval, at quality 0."""
LANDMARKS = (1, 3, 7, 10)
BOUNDARY, TEST_FROM, LOG_END = 10, 40, 60
CAUSES = ("cut_out", "wear_out")
LABEL = SurvivalLabel(
    name="stop", entry="entry", exit="exit", event="stopped", cause="cause", causes=CAUSES,
    horizons=(3, 7),
)  # fmt: skip


def hazards(quality):
    """P(stop on a day | alive) by interval, float64[n, J]: the better, the longer alive."""
    return 1 / (1 + np.exp(quality[:, None] - BASE))


def at_risk(entry, exit_):
    """Days in each interval, int64[n, J]."""
    days = np.minimum(exit_[:, None] + 1, EDGES[1:]) - np.maximum(entry[:, None], EDGES[:-1])
    return np.maximum(days, 0)


def simulate(num_creatives, seed=0, late_share=0.0, first=TEST_FROM, end=LOG_END):
    """Labels of rows whose landmark is in [first, end), and their quality, creative, day.

    A late share of the creatives is first seen some days after its landmark.
    """
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=num_creatives)
    daily = np.repeat(hazards(quality), np.diff(EDGES), axis=1)
    stops = rng.random(daily.shape) < daily
    stop = np.where(stops.any(1), 1 + stops.argmax(1), 10**6)
    launch = rng.integers(0, end, num_creatives)
    delay = rng.integers(1, 8, num_creatives) * (rng.random(num_creatives) < late_share)
    creative = np.repeat(np.arange(num_creatives), len(LANDMARKS))
    landmark = np.tile(LANDMARKS, num_creatives)
    entry, day = landmark + delay[creative], launch[creative] + landmark - 1
    last = np.minimum(end - launch[creative], EDGES[-1] - 1)
    exit_ = np.minimum(stop[creative], last)
    kept = (exit_ >= entry) & (first <= day)
    cause = np.where(stop[creative] > last, 0, 1 + (exit_ >= BOUNDARY))
    lives = Lives(*(part[kept] for part in (landmark, entry, exit_, cause)))
    return lives, quality[creative[kept]], creative[kept], day[kept]


def rows_of(lives, hazard, creative=None, day=None, **other):
    """Evaluated rows whose predicted daily hazards are float64[n, J]."""
    size = len(lives.exit)
    alive = np.log1p(-hazard)
    days = at_risk(lives.entry, lives.exit)
    stopped = lives.cause > 0
    at_exit = np.searchsorted(EDGES, lives.exit, "right") - 1
    of_stop = hazard[np.arange(size), np.minimum(at_exit, hazard.shape[1] - 1)]
    nll = -(days * alive).sum(1) + np.where(stopped, np.log1p(-of_stop) - np.log(of_stop), 0)
    columns = {
        "clusters": Clusters.singletons(size),
        "creative": np.arange(size) if creative is None else creative,
        "day": np.zeros(size, np.int64) if day is None else day,
        "planned_end": np.zeros(size, np.int64),
        "spend": np.zeros(size),
        **other,
    }
    expected = (days * hazard).sum(1)
    return SurvivalRows(lives, Curves.of(alive, EDGES), nll=nll, expected=expected, **columns)


def measured(rows, hazard, train, **other):
    """What `measure_survival` takes; causes by age."""
    lives, days = rows.lives, at_risk(rows.lives.entry, rows.lives.exit)
    is_early = EDGES[:-1] < BOUNDARY
    by_cause = np.stack([hazard * is_early, hazard * ~is_early], axis=1)
    interval = np.searchsorted(EDGES, lives.exit, "right") - 1
    stops = np.zeros(by_cause.shape, bool)
    ended = np.flatnonzero((lives.cause > 0) & (lives.exit < EDGES[-1]))
    stops[ended, lives.cause[ended] - 1, interval[ended]] = True
    since = np.minimum(lives.entry, EDGES[-1]) - 1
    within = {}
    for horizon in LABEL.horizons:
        to = np.stack([np.minimum(since + horizon, BOUNDARY - 1), since + horizon], axis=1)
        early, total = (1 - rows.curves.alive(since, to)).T
        within[horizon] = np.stack([total, early, total - early], axis=1)
    slices = {"genre": pa.chunked_array([np.where(np.arange(len(rows)) % 3, "a", "b")])}
    fields = {
        "label": LABEL,
        "edges": EDGES,
        "boundary": BOUNDARY,
        "rows": rows,
        "train": train,
        "stops": stops,
        "expected": days[:, None] * by_cause,
        "within": within,
        "slices": slices,
        "max_slices": 5,
    }
    return Measured(**{**fields, **other})
