from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.plan import make_plan
from recsys_mtl.evaluation.window import shards_from
from recsys_mtl.spec.feature_spec import Keys

START_US = 1_772_323_200_000_000
"""2026-03-01 00:00 UTC."""
OFFSETS_S = np.array([-7200, -3600, -1, 0, 5, 9])
US = START_US + OFFSETS_S * 1_000_000
TIMES = {
    "int us": (pa.array(US), "us"),
    "int ms": (pa.array(US // 1000), "ms"),
    "int s": (pa.array(US // 1_000_000), "s"),
    "us utc": (pa.array(US).cast(pa.timestamp("us", "UTC")), "us"),
    "ms local": (pa.array(US // 1000).cast(pa.timestamp("ms", "Asia/Tokyo")), "us"),
    "ns naive": (pa.array(US * 1000).cast(pa.timestamp("ns")), "us"),
}


def keys(unit="us", time="t"):
    return Keys(row_id="assign", time=time, time_unit=unit)


def first_rows(tasks):
    return [(task.index, task.first_row) for task in tasks]


@pytest.mark.parametrize("kind", list(TIMES))
def test_shards_before_the_start_are_left_out(tmp_path, kind):
    """Shards of one row each at -2h, -1h, -1s, 0, 5s, 9s: the last three, numbered anew."""
    column, unit = TIMES[kind]
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"t": column}), path, row_group_size=1)
    tasks = make_plan(tmp_path, [path], 1).tasks
    assert first_rows(shards_from(tasks, keys(unit), START_US)) == [(0, 3), (1, 4), (2, 5)]


def test_shard_that_reaches_into_the_window_is_kept(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"t": pa.array(US)}), path, row_group_size=2)
    tasks = make_plan(tmp_path, [path], 4).tasks
    assert first_rows(shards_from(tasks, keys(), START_US)) == [(0, 0), (1, 4)]


def test_nothing_is_left_out_without_statistics_or_time(tmp_path):
    bare, text = tmp_path / "a.parquet", tmp_path / "b.csv"
    pq.write_table(pa.table({"t": pa.array(US)}), bare, write_statistics=False)
    assert len(shards_from(make_plan(tmp_path, [bare], 9).tasks, keys(), 2**60)) == 1
    assert len(shards_from(make_plan(tmp_path, [bare], 9).tasks, keys(time=None), 2**60)) == 1
    assert len(shards_from(make_plan(tmp_path, [bare], 9).tasks, keys(time="u"), 2**60)) == 1
    csv.write_csv(pa.table({"t": [datetime(2026, 1, 1, tzinfo=UTC)]}), text)
    assert len(shards_from(make_plan(tmp_path, [text], 9, "csv").tasks, keys(), 2**60)) == 1
