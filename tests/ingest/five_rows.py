"""Five assembled rows whose encoding is worked out by hand in the tests."""

import math

import pyarrow as pa

from recsys_mtl.spec.feature_spec import FeatureSpec

DAY = 86_400_000_000
AS_OF = 2 * DAY

TABLES = {
    "user": {"dim": 4, "ids": {"kind": "hash", "buckets": 100, "seed": 17}},
    "city": {"dim": 4, "ids": {"kind": "vocab", "min_count": 2, "max_size": 10, "oov_buckets": 2}},
    "tag": {"dim": 4, "ids": {"kind": "vocab", "max_size": 10}},
    "hour": {"dim": 4, "ids": {"kind": "range", "size": 4}},
    "price_bin": {"dim": 4, "ids": {"kind": "range", "size": 3}},
}
PRICE = [{"clip": [0.0, 100.0]}, {"log1p": True}, {"zscore": "fit"}]
FEATURES = [
    {"name": "city", "kind": "id", "table": "city"},
    {"name": "user", "kind": "id", "column": "user_id", "table": "user"},
    {"name": "tags", "kind": "id_list", "table": "tag", "max_len": 2, "separator": ","},
    {"name": "hour", "kind": "id", "table": "hour"},
    {
        "name": "price",
        "kind": "number",
        "column": "shop.price",
        "transform": PRICE,
        "missing": {"fill": 0.5, "indicator": True},
    },
    {
        "name": "price_b",
        "kind": "number",
        "column": "shop.price",
        "transform": [{"bucketize": [0.0, 1.0]}],
        "table": "price_bin",
    },
    {"name": "age", "kind": "number"},
]
LABELS = [
    {"name": "buy", "column": "is_buy", "parent": "click", "maturity": "1d"},
    {"name": "click", "column": "is_click"},
    {
        "name": "seen",
        "column": "state",
        "positive": ["full", "half"],
        "observed": {"column": "shown", "equals": 1},
    },
]
KEYS = {"row_id": "row", "group": "user_id", "time": "ts"}


def spec_of(**changes) -> FeatureSpec:
    """The spec of the five rows; keys of the file, or of its source, can be replaced."""
    source = {"keys": KEYS, "labels": LABELS}
    source |= {k: changes.pop(k) for k in ("keys", "labels") if k in changes}
    fields = [{"name": "city", "column": "city", "table": "city"}]
    values = {
        "spec_version": 1,
        "name": "shop",
        "sources": {"rows": source},
        "tables": TABLES,
        "features": FEATURES,
        "sequences": [{"name": "visits", "behaviour": "visit", "max_len": 2, "fields": fields}],
        "split": {"policy": "time", "valid_from": "2026-03-08", "test_from": "2026-03-09"},
    }
    return FeatureSpec.model_validate(values | changes)


def five_rows() -> pa.Table:
    """All in the train split; the fourth has almost everything missing."""
    visits = [["oslo", "bonn", "rome"], [], None, ["paris"], ["rome", None]]
    return pa.table(
        {
            "row": ["r1", "r2", "r3", "r4", "r5"],
            "user_id": [7, 7, -1, 2**40, 0],
            "city": ["rome", "oslo", None, "rome", "bonn"],
            "tags": ["a,b,c", "b", "", None, "b,,a"],
            "hour": pa.array([0, 3, 4, None, -1], pa.int8()),
            "shop.price": [0.0, math.e - 1, -5.0, None, math.nan],
            "age": pa.array([1, 2, 3, None, 5], pa.int32()),
            "visits__city": pa.array(visits, pa.list_(pa.string())),
            "is_click": pa.array([1, 0, 1, None, 1], pa.int8()),
            "is_buy": pa.array([1, 0, 0, 0, 1], pa.int8()),
            "state": ["full", "none", "half", None, "half"],
            "shown": [1, 1, 0, 1, None],
            "key__time": [0, DAY, 0, 0, DAY + 1],
            "key__split": pa.array([0] * 5, pa.int8()),
        }
    )
