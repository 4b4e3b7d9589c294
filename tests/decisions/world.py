"""Hand-made live creatives with all columns of the scores."""

from datetime import date

import numpy as np
import pyarrow as pa

from recsys_mtl.decisions.thresholds import Threshold
from recsys_mtl.registry.read_outs import CURVE_DAYS
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

LABEL = SurvivalLabel(
    name="stop",
    entry="entry",
    exit="exit",
    event="stopped",
    cause="cause",
    causes=("cut_out", "wear_out"),
    horizons=(3, 7),
)
DAY = date(2026, 5, 1)
THRESHOLDS = [Threshold("cut_out", 0.8), Threshold("wear_out", 0.8)]


def policy(mode="shadow", **restraint):
    return Policy.model_validate(
        {
            "policy_version": 1,
            "mode": mode,
            "horizon": 7,
            "causes": {"cut_out": {}, "wear_out": {"replace_first": True}},
            "evidence": {"target_ctr": {"default": 0.02, "genres": {"games": 0.03}}},
            "restraint": {"hold_out": 0.0, **restraint},
        }
    )


def live(cut_out, wear_out=None, day=DAY, **change):
    """One creative of its own campaign and advertiser per probability; bad clicks."""
    cut_out = np.asarray(cut_out, float)
    count = len(cut_out)
    wear_out = np.full(count, 0.05) if wear_out is None else np.asarray(wear_out, float)
    columns = {
        "row_id": [f"c{i}@5" for i in range(count)],
        "creative": [f"c{i}" for i in range(count)],
        "campaign": [f"k{i}" for i in range(count)],
        "advertiser": [f"a{i}" for i in range(count)],
        "genre": ["games"] * count,
        "day": pa.array([day] * count),
        "landmark": np.full(count, 5, np.int32),
        "impressions": np.full(count, 2000),
        "clicks": np.full(count, 10),
        "conversions": np.full(count, 1),
        "spend": np.full(count, 12.5),
        "age": np.full(count, 4),
        "stop__days": np.full(count, 9.25),
        "stop__7d": np.minimum(cut_out + wear_out, 1),
        "stop__cut_out__7d": cut_out,
        "stop__wear_out__7d": wear_out,
        **{f"stop__alive_{d}d": np.full(count, 0.9**d) for d in CURVE_DAYS},
    }
    return pa.table(columns | change)
