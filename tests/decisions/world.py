"""Hand-made live creatives with all columns of the scores."""

from datetime import date, timedelta

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
AGE = 5
"""Of every creative on day 0."""
BAD, TIRED, GOOD = {"cut_out": 0.9}, {"cut_out": 0.1, "wear_out": 0.9}, {"cut_out": 0.1}
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


def life(name, days, signs, stopped=False, cause="cut_out", unseen=0, **change):
    """A creative on each of its days, `stopped` at the end of the last, not seen on the first."""
    first, last = days
    tables = []
    for day in range(first, last + 1):
        is_bad = signs is BAD
        known = live(
            [signs["cut_out"]],
            [signs.get("wear_out", 0.05)],
            day=DAY + timedelta(days=day),
            creative=[name],
            campaign=[f"of {name}"],
            advertiser=[f"by {name}"],
            clicks=[10 if is_bad else 90],
            row_id=[f"{name}@{AGE + day}"],
            landmark=pa.array([AGE + day], pa.int32()),
            **{key: [value] for key, value in change.items()},
        )
        label = {
            "entry": pa.array([AGE + day], pa.int32()),
            "exit": pa.array([AGE + last], pa.int32()),
            "stopped": pa.array([int(stopped)], pa.int8()),
            "cause": pa.array([cause if stopped else None], pa.string()),
            "impressions_of_day": [10],
            "clicks_of_day": [1],
            "conversions_of_day": [0],
            "spend_of_day": [2.5],
            "seen_alive": [day >= first + unseen],
        }
        tables.append(pa.table(dict(zip(known.column_names, known.columns, strict=True)) | label))
    return pa.concat_tables(tables)
