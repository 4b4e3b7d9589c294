"""The whole of survival.json on a world whose hazards are known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.evaluation.survival_measures import headline, measure_survival
from recsys_mtl.evaluation.survival_rows import Lives
from recsys_mtl.metrics.clusters import Clusters

from .survival_world import CAUSES, TEST_FROM, hazards, measured, rows_of, simulate

NUM_CREATIVES = 4000


def world(quality_error=0.0, late_share=0.3):
    """Rows, training rows, and hazards at a quality that is known with an error."""
    outcome, quality, creative, day = simulate(NUM_CREATIVES, seed=1, late_share=late_share)
    train = simulate(NUM_CREATIVES, seed=2, first=0, end=TEST_FROM)[0]
    error = np.random.default_rng(3).normal(size=NUM_CREATIVES)[creative]
    hazard = hazards(quality + quality_error * error)
    spend = np.where(outcome.landmark > 1, np.exp(quality), 0.0)
    other = {"clusters": Clusters.of(creative // 10), "spend": spend}
    return rows_of(outcome, hazard, creative, day, **other), hazard, train


@pytest.fixture(scope="module")
def report():
    return measure_survival(measured(*world()))


def test_the_truth_is_calibrated_everywhere(report):
    ratio = report["subsets"]["all"]["observed_over_expected"]
    assert abs(ratio["value"] - 1) < 3 * ratio["se"] and ratio["se"] < 0.05
    full = [c for c in report["observed_over_expected"] if c["expected"] > 20]
    assert len(full) == 4 and {c["cause"] for c in full} == set(CAUSES)
    assert all(c["low"] <= 1 <= c["high"] for c in full)
    assert report["d_calibration"]["p_value"] > 0.01
    for cell in report["calibration"]["all"].values():
        for part in (cell, *cell["causes"].values()):
            assert abs(part["observed"] - part["predicted"]) < 4 * part["se"]


def test_counting_days_before_the_entry_shows_as_too_few_stops(report):
    """The check above can fail: days on which nobody could stop are not at risk."""
    rows, hazard, train = world()
    early = replace(rows.lives, entry=rows.lives.landmark)
    wrong = rows_of(early, hazard, rows.creative, rows.day)
    ratio = measure_survival(measured(wrong, hazard, train))["subsets"]["all"][
        "observed_over_expected"
    ]
    assert ratio["value"] + 2 * ratio["se"] < 1
    assert ratio["value"] < 0.94 < report["subsets"]["all"]["observed_over_expected"]["value"]


def test_a_blurred_model_is_worse_by_every_measure(report):
    blurred = headline(measure_survival(measured(*world(quality_error=1.5))))
    true = headline(report)
    for name in ("c_short", "c_long", "c_overall", "uno_c_short", "antolini_c_overall"):
        assert true[name]["value"] > blurred[name]["value"] + 0.02, name
    for name in ("nll", "brier_3d", "brier_integrated"):
        assert true[name]["value"] < blurred[name]["value"], name
    assert true["brier_integrated"]["value"] < true["brier_integrated_kaplan_meier"]["value"]


def test_headlines_are_all_numbers_by_which_runs_are_compared(report):
    spans = ("short", "long", "overall")
    kinds = ("c", "uno_c", "antolini_c")
    expected = {
        f"{kind}_{span}{end}" for kind in kinds for span in spans for end in ("", "_top_sales")
    }
    expected |= {
        f"brier_{d}{end}" for d in ("3d", "7d", "integrated") for end in ("", "_kaplan_meier")
    }
    expected |= {"nll", "observed_over_expected", "observed_over_expected_top_sales"}
    assert set(headline(report)) == expected | {"d_calibration_deviation"}


def test_top_sales_are_rows_of_their_own(report):
    every, top = (report["subsets"][name] for name in ("all", "top_sales"))
    assert every["rows"] == report["rows"] and every["stops"] == report["stops"]
    assert 0.05 * every["rows"] < top["rows"] < 0.25 * every["rows"]
    # Spend follows quality here: what sells best is stopped less.
    assert top["stops"] / top["rows"] < 0.8 * every["stops"] / every["rows"]


def test_slices_add_up(report):
    values = report["calibration"]["slices"]["genre"]
    assert set(values) == {"a", "b"}
    assert sum(v["3"]["rows"] for v in values.values()) == report["rows"]


def test_the_same_rows_give_the_same_bytes(report):
    again = measure_survival(measured(*world()))
    assert json.dumps(again, allow_nan=False) == json.dumps(report, allow_nan=False)


def test_rows_that_all_live_are_measured_without_a_ratio():
    rows, hazard, train = world()
    alive = Lives(rows.lives.landmark, rows.lives.entry, rows.lives.exit, 0 * rows.lives.cause)
    nothing = measure_survival(measured(replace(rows, lives=alive), hazard, train))
    figures = nothing["subsets"]["all"]
    assert figures["stops"] == 0 and figures["observed_over_expected"]["reason"] == "no stop"
    assert all(
        kind["reason"] in {"no comparable pair", "no observed row"}
        for span in figures["c"].values()
        for kind in span.values()
    )
    assert nothing["concordance"] == {}
    assert json.dumps(nothing, allow_nan=False)


def test_no_spend_leaves_the_top_empty_with_reasons():
    rows, hazard, train = world()
    top = measure_survival(measured(replace(rows, spend=0 * rows.spend), hazard, train))["subsets"][
        "top_sales"
    ]
    assert top["rows"] == 0 and top["nll"]["reason"] == "no observed row"
    assert {k["reason"] for s in top["c"].values() for k in s.values()} == {"no observed row"}


def test_rows_beyond_the_grid_are_in_the_likelihood_alone():
    rows, hazard, train = world(late_share=0)
    shift = np.where(np.arange(len(rows)) < 3, 60, 0)
    lives = replace(rows.lives, entry=rows.lives.entry + shift, exit=rows.lives.exit + shift)
    found = measure_survival(measured(replace(rows, lives=lives), hazard, train))
    assert found["beyond_grid"] == 3 and found["nll"]["n"] == len(rows)
    assert found["subsets"]["all"]["rows"] == len(rows) - 3
    everywhere = replace(rows.lives, entry=rows.lives.entry + 60, exit=rows.lives.exit + 60)
    with pytest.raises(DataError, match="older than day 60, where the model's grid ends"):
        measure_survival(measured(replace(rows, lives=everywhere), hazard, train))
