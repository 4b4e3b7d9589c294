"""Split windows: boundaries, embargo, and columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.ingest.splits import TimeBounds, column_codes, time_bounds
from recsys_mtl.spec.feature_spec import ColumnSplit
from recsys_mtl.spec.interval import DAY_US, Interval
from recsys_mtl.spec.load import load_pipeline
from tests.conftest import write_pipeline


def test_codes_at_every_boundary():
    bounds = TimeBounds(0, 10, 12, 20, 22, 30)
    times = np.array([-1, 0, 9, 10, 11, 12, 19, 20, 22, 29, 30])
    assert bounds.codes(times).tolist() == [-1, 0, 0, -1, -1, 1, 1, -1, 2, 2, -1]


def test_relative_split_is_counted_back_from_the_interval_end(tmp_path, feed):
    def embargo(p):
        p["split"] = {"valid": "1d", "test": "2d", "embargo": "1h"}

    loaded = load_pipeline(write_pipeline(tmp_path, feed, embargo))
    hour = DAY_US // 24
    bounds = time_bounds(loaded.pipeline, loaded.spec, Interval(0, 10 * DAY_US))
    assert (bounds.valid_us, bounds.test_us, bounds.end_us) == (7 * DAY_US, 8 * DAY_US, 10 * DAY_US)
    assert bounds.train_end_us == 7 * DAY_US - hour
    assert bounds.valid_end_us == 8 * DAY_US - hour


def test_relative_split_without_an_interval_is_refused(pipeline: Path):
    loaded = load_pipeline(pipeline)
    with pytest.raises(ValueError, match="needs an interval"):
        time_bounds(loaded.pipeline, loaded.spec, None)


def test_column_split_takes_a_stable_share_of_train_rows():
    split = ColumnSplit(policy="column", column="s", train="a", test="b", valid_fraction=0.25)
    rows = pa.table({"s": ["a"] * 4000 + ["b", "c", None]})
    ids = pa.array(np.arange(4003))
    codes = column_codes(rows, split, ids)
    assert codes[-3:].tolist() == [2, -1, -1]
    assert abs((codes[:4000] == 1).mean() - 0.25) < 0.03
    again = column_codes(rows.slice(100, 50), split, ids.slice(100, 50))
    assert again.tolist() == codes[100:150].tolist()
