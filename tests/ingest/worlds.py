"""A small raw world: daily rows, a side table, a behaviour log, and a pipeline that reads them."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.ingest.job import ingest
from recsys_mtl.spec.load import load_pipeline
from tests.products import write_product

DAY = 86_400_000_000
FIRST = 20_513
"""2026-03-01, in days since 1970."""
DAYS, ROWS, USERS, ITEMS = 4, 60, 9, 15


def day_name(day: int) -> str:
    return str(np.datetime64(FIRST + day, "D"))


def times_in(rng, day: int, count: int) -> pa.Array:
    times = rng.integers((FIRST + day) * DAY, (FIRST + day + 1) * DAY, count)
    return pa.array(times, pa.timestamp("us", "UTC"))


def rows_of(day: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng([seed, day])
    click = (rng.random(ROWS) < 0.5).astype(np.int8)
    time = times_in(rng, day, ROWS)
    return pa.table(
        {
            "rid": pa.array(np.arange(ROWS) + day * ROWS),
            "user_id": pa.array(rng.integers(0, USERS, ROWS)),
            "item_id": pa.array(rng.integers(0, ITEMS, ROWS)),
            "ts": time,
            "price": pa.array(rng.normal(size=ROWS)),
            "click": pa.array(click),
            "buy": pa.array(click * (rng.random(ROWS) < 0.5).astype(np.int8)),
        }
    )


def log_of(day: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng([seed, day, 1])
    action = np.where(rng.random(2 * ROWS) < 0.7, "click", "like")
    return pa.table(
        {
            "user_id": pa.array(rng.integers(0, USERS, 2 * ROWS)),
            "item_id": pa.array(rng.integers(0, ITEMS, 2 * ROWS)),
            "ts": times_in(rng, day, 2 * ROWS),
            "action": pa.array(action),
        }
    )


def users_table() -> pa.Table:
    cities = pa.array([f"c{i % 4}" for i in range(USERS)])
    return pa.table({"user_id": pa.array(range(USERS)), "city": cities})


def write_feed(root: Path, days: int = DAYS, row_group: int | None = None) -> Path:
    """Raw files below `root`; `row_group` rows per group, so that a file makes several shards."""
    for folder in ("rows", "log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(users_table(), root / "users.parquet")
    for day in range(days):
        name = f"{day_name(day)}.parquet"
        pq.write_table(rows_of(day), root / "rows" / name, row_group_size=row_group)
        pq.write_table(log_of(day), root / "log" / name)
    return root


def spec_values() -> dict:
    zscore = [{"zscore": "fit"}]
    labels = [{"name": "click", "column": "click"}]
    labels += [{"name": "buy", "column": "buy", "parent": "click"}]
    fields = [{"name": "item", "column": "item_id", "table": "item", "target": "item"}]
    return {
        "spec_version": 1,
        "name": "tiny",
        "sources": {
            "rows": {
                "keys": {"row_id": "rid", "group": "user_id", "time": "ts"},
                "joins": [{"side": "users", "key": "user_id"}],
                "events": {"log": {"key": "user_id", "time": "ts"}},
                "labels": labels,
            }
        },
        "tables": {
            "user": {"dim": 4, "ids": {"kind": "hash", "buckets": 50, "seed": 17}},
            "item": {"dim": 4, "ids": {"kind": "vocab", "max_size": 40}},
            "city": {"dim": 4, "ids": {"kind": "vocab", "max_size": 9}},
        },
        "features": [
            {"name": "user", "kind": "id", "column": "user_id", "table": "user"},
            {"name": "item", "kind": "id", "column": "item_id", "table": "item"},
            {"name": "city", "kind": "id", "column": "users.city", "table": "city"},
            {"name": "price", "kind": "number", "transform": zscore},
        ],
        "sequences": [
            {
                "name": "clicks",
                "behaviour": "click",
                "max_len": 5,
                "cutoff": "1s",
                "events": {"log": "log", "where": {"column": "action", "equals": "click"}},
                "fields": fields,
            }
        ],
        "split": {"policy": "time", "valid_from": "2026-03-03", "test_from": "2026-03-04"},
        "quality": {"max_null_rate": 0.5, "max_unmatched_rate": 0.5},
    }


def pipeline_values(folder: Path, feed: Path) -> dict:
    return {
        "pipeline_version": 1,
        "name": "tiny",
        "spec": "spec.yaml",
        "home": str(folder / "out"),
        "data": {
            "root": str(feed),
            "source": "rows",
            "rows": {"path": "rows/{date}.parquet"},
            "sides": {"users": {"path": "users.parquet"}},
            "events": {"log": {"path": "log/{date}.parquet"}},
        },
        "split": {"valid": "1d", "test": "1d"},
        "ingest": {"engine": "local", "workers": 1, "shard_rows": ROWS, "reject_budget": 0.1},
        "training": {"seed": 1},
        "gate": {"margins": {"click": {"auc": 0.1}, "buy": {"auc": 0.1}}},
        "scoring": {"rows": {"path": "rows/{date}.parquet"}},
    }


def write_files(folder: Path, feed: Path, change=None, change_spec=None) -> Path:
    """A pipeline file in `folder` after `change(pipeline)`, its spec after `change_spec(spec)`."""
    pipeline, spec = pipeline_values(folder, feed), spec_values()
    return write_product(folder, pipeline, spec, change, change_spec)


def load(folder: Path, feed: Path, change=None, change_spec=None):
    return load_pipeline(write_files(folder, feed, change, change_spec))


def ingested(folder: Path, feed: Path, change=None, change_spec=None, end=None):
    """The artifact of an ingest of `feed`."""
    return ingest(load(folder, feed, change, change_spec), end)


def edit(path: Path, change) -> None:
    """Rewrite a Parquet file as `change(table)`."""
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values):
    """A change for `edit` that replaces or adds a column; `values` may be a function of it."""

    def change(table: pa.Table) -> pa.Table:
        new = values(table[name].to_pylist()) if callable(values) else values
        if name not in table.column_names:
            return table.append_column(name, pa.array(new))
        return table.set_column(table.column_names.index(name), name, pa.array(new))

    return change


def with_value(name: str, row: int, value):
    """A change for `edit` that replaces one value; null where `value` is None."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        kind = table.schema.field(name).type if value is None else None
        return table.set_column(table.column_names.index(name), name, pa.array(values, kind))

    return change


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of an artifact but locks and timings."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if not p.name.startswith(".") and p.name != "timing.jsonl"
    }


def encoded(manifest) -> pa.Table:
    """All encoded rows of an artifact, by row id."""
    parts = [e.path for e in manifest.files if e.path.startswith("part-") and e.rows is not None]
    table = pa.concat_tables(pq.read_table(manifest.dir / name) for name in sorted(parts))
    return table.sort_by("key__row_id")
