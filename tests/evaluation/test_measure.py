import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from recsys_mtl.evaluation.measure import METRICS, above_parent, largest_slices, measure


def predictions(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.01, 0.6, (n, 2))
    return pa.table(
        {
            "group": rng.integers(0, 150, n),
            "p__click": p[:, 0],
            "p__buy": p[:, 1],
            "label__click": (rng.random(n) < p[:, 0]).astype(np.float32),
            "label__buy": (rng.random(n) < p[:, 1]).astype(np.float32),
            "mask__click": np.ones(n, bool),
            "mask__buy": rng.random(n) < 0.5,
            "slice__tab": pa.array(rng.choice(["b", "a", "c"], n, p=[0.4, 0.4, 0.2])),
        }
    )


def numpy(table, name):
    return table[name].to_numpy(zero_copy_only=False)


def test_metrics_are_those_of_the_observed_rows():
    table = predictions()
    metrics, _ = measure(table, ["click", "buy"], [], 20)
    seen = numpy(table, "mask__buy")
    expected = roc_auc_score(numpy(table, "label__buy")[seen], numpy(table, "p__buy")[seen])
    assert metrics["tasks"]["buy"]["auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert metrics["tasks"]["buy"]["auc"]["n"] == seen.sum()
    assert metrics["tasks"]["buy"]["auc"]["n_clusters"] == len(set(numpy(table, "group")[seen]))
    assert metrics["masked"] == {"click": 0, "buy": 2000 - seen.sum()}
    assert set(metrics["tasks"]["click"]) == set(METRICS)


def test_slices_are_measured_like_a_table_of_their_own():
    table = predictions()
    metrics, _ = measure(table, ["click", "buy"], ["tab"], 20)
    assert len(metrics["slices"]["tab"]) == 3
    for value, part in metrics["slices"]["tab"].items():
        rows = pa.array([v == value for v in table["slice__tab"].to_pylist()])
        alone, _ = measure(table.filter(rows), ["click", "buy"], [], 20)
        for task in ("click", "buy"):
            for metric in METRICS:
                assert part[task][metric] == pytest.approx(alone["tasks"][task][metric])


def test_rows_on_which_a_child_is_predicted_above_its_parent():
    table = predictions()
    expected = np.mean(numpy(table, "p__buy") > numpy(table, "p__click"))
    assert above_parent(table, ["click", "buy"], (-1, 0)) == {"buy": pytest.approx(expected)}
    assert above_parent(table, ["click", "buy"], (-1, -1)) == {}
    assert above_parent(table, [], ()) == {}


def test_largest_slices_first_ties_by_value():
    table = pa.table({"slice__tab": ["b", "a", "e", "c", "c", "a", "b", "d"]})
    found = [(v, m.sum()) for v, m in largest_slices(table, "tab", 4)]
    assert found == [("a", 2), ("b", 2), ("c", 2), ("d", 1)]


def test_slice_of_one_class_has_reasons_and_no_crash():
    table = predictions()
    labels = np.where(
        [v == "a" for v in table["slice__tab"].to_pylist()], 0, numpy(table, "label__click")
    )
    index = table.column_names.index("label__click")
    table = table.set_column(index, "label__click", pa.array(labels.astype(np.float32)))
    metrics, _ = measure(table, ["click"], ["tab"], 20)
    assert metrics["slices"]["tab"]["a"]["click"]["auc"]["reason"] == "no positive row"
    json.dumps(metrics, allow_nan=False)


def test_no_observed_row_gives_reasons():
    table = predictions()
    index = table.column_names.index("mask__buy")
    table = table.set_column(index, "mask__buy", pa.array(np.zeros(2000, bool)))
    metrics, bins = measure(table, ["buy"], [], 20)
    assert {m["reason"] for m in metrics["tasks"]["buy"].values()} == {"no observed row"}
    assert bins == {"buy": []}


def test_calibration_bins_hold_every_observed_row():
    _, bins = measure(predictions(), ["click"], [], 20)
    assert sum(b["n"] for b in bins["click"]) == 2000
    assert all(b["low"] <= b["rate"] <= b["high"] for b in bins["click"])
    rates = [b["mean_prob"] for b in bins["click"]]
    assert rates == sorted(rates) and len(rates) == 15
