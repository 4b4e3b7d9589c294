"""Each row-level fault of assembled rows, with its code, count and first row."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.ingest.assemble import SourceContext
from recsys_mtl.ingest.checks import check_rows
from recsys_mtl.spec.feature_spec import FeatureSpec

FIELDS = [
    {"name": "item", "column": "items", "table": "item"},
    {"name": "cat", "column": "cats", "table": "item"},
]
SEQUENCE = {"name": "seen", "behaviour": "click", "max_len": 9, "time": "seen_at", "cutoff": "1s"}
LABELS = [{"name": "click", "column": "click"}, {"name": "buy", "column": "buy", "parent": "click"}]
SECOND = 1_000_000


def found(table, number=None, unit="us", labels=LABELS, sequence=SEQUENCE):
    """Codes and texts of what is wrong with assembled rows."""
    numbers = [{"kind": "number", "name": "price", **(number or {})}]
    spec = FeatureSpec.model_validate(
        {
            "spec_version": 1,
            "name": "s",
            "sources": {
                "rows": {
                    "keys": {"row_id": "assign", "time": "ts", "time_unit": unit},
                    "labels": labels,
                }
            },
            "tables": {"item": {"dim": 4, "ids": {"kind": "hash", "buckets": 9, "seed": 17}}},
            "features": numbers,
            "sequences": [{**sequence, "fields": FIELDS}],
            "split": {"policy": "time", "valid_from": "2026-03-08", "test_from": "2026-03-09"},
        }
    )
    ctx = SourceContext(spec, "rows", "parquet", {}, {}, {}, None, None, True)
    return {p.code: str(p) for p in check_rows(table, ctx)}


def rows(items=None, cats=None, times=None, **columns):
    """Three sound rows at 100, 200 and 300 s with up to two events."""
    items = [[1, 2], [], [3]] if items is None else items
    cats = [[1, 2], [], [3]] if cats is None else cats
    times = [[90 * SECOND, 98 * SECOND], [], [0]] if times is None else times
    values = {
        "seen__item": pa.array(items, pa.list_(pa.int64())),
        "seen__cat": pa.array(cats, pa.list_(pa.int64())),
        "seen_at": pa.array(times, pa.list_(pa.int64())) if isinstance(times, list) else times,
        "price": [1.0, None, float("nan")],
        "click": [1, 0, None],
        "buy": [1, None, None],
        "key__time": [100 * SECOND, 200 * SECOND, 300 * SECOND],
    }
    return pa.table(values | columns)


def test_sound_rows_have_no_problems():
    assert found(rows()) == {}


def test_lists_of_different_lengths():
    texts = found(rows(cats=[[1, 2], [7], [3]]))
    assert "column 'cats': 1 rows have lists of another length than 'items'" in texts["D002"]
    assert "(first at row 1)" in texts["D002"]
    assert "column 'seen_at': 1 rows" in found(rows(times=[[1, 2], [], []]))["D002"]


def test_a_null_list_is_an_empty_list():
    assert found(rows(items=[[1, 2], None, [3]], times=[[1, 2], None, [0]])) == {}


def test_times_out_of_order_within_a_row_but_not_across_rows():
    texts = found(rows(times=[[98 * SECOND, 90 * SECOND], [], [0]]))
    assert list(texts) == ["D003"]
    assert "1 events are older than the one before them (first at row 0)" in texts["D003"]


def test_an_event_without_a_time():
    texts = found(rows(times=[[1, 2], [], [None]]))
    assert "column 'seen_at': 1 events have no time (first at row 2)" in texts["D003"]


@pytest.mark.parametrize(("event_us", "codes"), [(99 * SECOND, ["D004"]), (99 * SECOND - 1, [])])
def test_the_cutoff_is_exact_to_the_microsecond(event_us, codes):
    texts = found(rows(times=[[1, event_us], [], [0]]))
    assert list(texts) == codes
    for text in texts.values():
        assert "1 events of sequence 'seen' are at or after their row's time minus the" in text
        assert "(first at row 0)" in text


def test_integer_event_times_have_the_unit_of_the_rows():
    late = rows(times=[[1, 101], [], [0]])
    assert list(found(late, unit="s")) == ["D004"]
    assert found(late, unit="us") == {}


def test_timestamp_event_times_are_understood():
    times = pa.array([[1, 101], [], [0]], pa.list_(pa.timestamp("s", "UTC")))
    assert list(found(rows(times=times))) == ["D004"]


def test_event_times_that_are_no_lists():
    text = found(rows(times=pa.array([1, 2, 3])))["D034"]
    assert "column 'seen_at': has type int64; a list of ids is expected" in text


def test_labels_outside_zero_and_one_and_children_without_parents():
    texts = found(rows(click=[1, 0, 3], buy=[1, 1, 0]))
    assert "column 'click': 1 rows hold no label (first 3 at row 2)" in texts["D005"]
    assert "D008" not in texts
    texts = found(rows(buy=[None, 1, 1]))
    assert texts["D008"].startswith(
        "column 'buy': 1 rows are 1 where parent 'click' is 0 (first at row 1)"
    )


def test_infinity_is_refused_and_nan_is_not():
    assert (
        "1 rows hold an infinity (first at row 1)" in found(rows(price=[1.0, np.inf, 2.0]))["D052"]
    )


def test_a_value_that_only_a_step_makes_infinite_is_found_before_encoding():
    text = found(rows(price=[1.0, 1e30, None]), {"transform": [{"zscore": [0.0, 1e-20]}]})["D052"]
    assert "become not finite (first at row 1: 1e+30" in text


def test_all_faults_are_reported_at_once():
    table = rows(cats=[[], [], []], click=[5, 0, 0], price=[np.inf, 0.0, 0.0])
    assert sorted(found(table)) == ["D002", "D005", "D052"]
