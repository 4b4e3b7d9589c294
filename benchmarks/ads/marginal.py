"""Marginal hazards from a log against the true ones, and two of the three classic mistakes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ads.measure import EDGES, LandmarkRows, by_bucket
from benchmarks.ads.world import Truth
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from recsys_mtl.simulate.ads_world import WorldConfig

RIGHT = "exposures from entry"
NO_ENTRY = "entry ignored (1 for all)"
NO_CENSORED = "censored rows dropped"


def fitted(log: pa.Table, truth: Truth, config: WorldConfig) -> dict[str, Any]:
    """Daily hazards of each real cell (cause and bucket) by each way to count, and their errors.

    Rows are all creatives from their first day in the log. The truth is the mean hazard of all
    creative-days of the log by bucket; cells in which a cause cannot occur are left out.
    """
    rules = LandmarkRules(landmarks=(1,), stop_source="flag", horizon=int(EDGES[-1]))
    last_day = config.first_day + timedelta(days=config.num_days - 1)
    rows = LandmarkRows.of(landmark_rows(log, rules, last_day).table)
    ways = {
        RIGHT: _hazards(rows),
        NO_ENTRY: _hazards(replace(rows, entry=np.ones_like(rows.entry))),
        NO_CENSORED: _hazards(rows.take(rows.event > 0)),
    }
    age = truth.states.age
    days = by_bucket(age, np.ones((len(age), 1)))
    true = by_bucket(age, truth.hazard) / np.maximum(days, 1)
    real = true > 0
    return {
        "rows": len(rows.entry),
        "late_entry": int((rows.entry > 1).sum()),
        "stops": rows.exposures(EDGES)[1].sum(0).numpy()[real].tolist(),
        "true": true[real].tolist(),
        "hazards": {name: found[real].tolist() for name, found in ways.items()},
        "error": {name: float(np.abs(found - true)[real].mean()) for name, found in ways.items()},
        "largest": {name: float(np.abs(found - true)[real].max()) for name, found in ways.items()},
    }


def _hazards(rows: LandmarkRows) -> np.ndarray:
    days, events = rows.exposures(EDGES)
    found: np.ndarray = (events.sum(0) / days.sum(0)).numpy()
    return found
