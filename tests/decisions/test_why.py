"""Reasons and sentences say what led to the decision."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.thresholds import Threshold
from recsys_mtl.decisions.why import percents
from tests.decisions.world import DAY, LABEL, THRESHOLDS, live, policy


def told(table, rules=None, previous=None, thresholds=THRESHOLDS):
    row = decide(table, rules or policy(), LABEL, thresholds, previous).to_pylist()[0]
    return row["reasons"], row["why"]


def test_a_first_day_counts_towards_the_days_that_are_needed():
    codes, why = told(live([0.93]))
    assert codes == ["cut_out", "below_target", "too_few_days"]
    assert why == (
        "operators stop 93% of such creatives for cut-out within 7 days (counts from 80% on); its "
        "click rate of 0.50% (10 of 2000) is below the target of 3.00% (99% sure); this is day 1 "
        "of the 2 days in a row that a stop needs."
    )


@pytest.mark.parametrize(
    ("table", "codes"),
    [
        (live([0.1]), ["below_target"]),
        (live([0.1], clicks=[90]), ["no_sign"]),
        (live([0.9], clicks=[90]), ["cut_out", "not_below_target"]),
        (live([0.9], impressions=[499]), ["cut_out", "few_impressions"]),
        (live([0.9], [0.85]), ["cut_out", "wear_out", "below_target", "too_few_days"]),
    ],
)
def test_codes(table, codes):
    assert told(table)[0] == codes


def test_few_impressions_are_not_judged():
    assert (
        "; 499 impressions are too few to judge its click rate."
        in told(live([0.9], impressions=[499]))[1]
    )


def test_a_likely_cause_is_told_before_a_more_probable_one_that_is_not():
    thresholds = [Threshold("cut_out", 0.95), Threshold("wear_out", 0.2)]
    assert "for wear-out" in told(live([0.6], [0.3]), thresholds=thresholds)[1]


def test_a_cause_without_threshold_never_counts():
    thresholds = [Threshold("cut_out", None), Threshold("wear_out", None)]
    codes, why = told(live([1.0], clicks=[90]), thresholds=thresholds)
    assert codes == ["no_sign"]
    assert "(never counts)" in why


@pytest.mark.parametrize(
    ("clicks", "words"),
    [
        (10, "of 0.50% (10 of 2000) is below the target of 3.00% (99% sure)."),
        (55, "of 2.75% (55 of 2000) may be below the target of 3.00% (75% sure)."),
        (60, "of 3.00% (60 of 2000) reaches the target of 3.00%."),
    ],
)
def test_clicks_are_told_as_sure_as_they_are(clicks, words):
    assert told(live([0.1], clicks=[clicks]))[1].endswith(f"its click rate {words}")


def test_a_tired_creative_asks_for_a_successor_until_it_is_stopped():
    table, rules = live([0.1], [0.9], clicks=[90]), policy(hysteresis_days=1, keep_live=0)
    codes, why = told(table, rules)
    assert codes == ["wear_out", "not_below_target", "replace_first"]
    assert why.endswith("the stop has been likely for 1 days in a row, so have a successor ready.")
    bad = live([0.1], [0.9], clicks=[10])
    codes, why = told(bad, rules)
    assert codes == ["wear_out", "below_target", "too_few_days", "replace_first"]
    tomorrow = bad.set_column(
        bad.column_names.index("day"), "day", pa.array([DAY + timedelta(days=1)])
    )
    codes, _ = told(tomorrow, rules, decide(bad, rules, LABEL, THRESHOLDS))
    assert codes == ["wear_out", "below_target"]


@pytest.mark.parametrize(
    ("change", "rules", "code", "words"),
    [
        ({}, {"keep_live": 0, "hold_out": 0.999999}, "hold_out", "which is never stopped."),
        ({}, {"keep_live": 1}, "kept_last", "its campaign must keep 1 live, so replace it first."),
        (
            {"advertiser": ["a", "a"]},
            {"keep_live": 0, "cap_per_advertiser": 1},
            "capped",
            "its advertiser's 1 stops of today go to more urgent ones.",
        ),
    ],
)
def test_what_held_a_stop_back_is_told(change, rules, code, words):
    rules = policy(hysteresis_days=1, **rules)
    rows = decide(live([0.9, 0.85], **change), rules, LABEL, THRESHOLDS).to_pylist()
    last = rows[-1]
    assert last["reasons"][-1] == code and last["why"].endswith(words)
    assert last["action"] == ("prepare_replacement" if code == "kept_last" else "watch")


def test_a_genre_has_its_own_target_and_others_the_default():
    table = live([0.1] * 3, genre=["games", "food", None])
    found = decide(table, policy(), LABEL, THRESHOLDS)
    targets = dict(zip(found["creative"].to_pylist(), found["target_ctr"].to_pylist(), strict=True))
    assert targets == {"c0": 0.03, "c1": 0.02, "c2": 0.02}
    assert np.all(np.diff(found["rank"].to_numpy()) == 1)


def test_what_is_nearly_sure_is_not_called_sure():
    found = percents(np.array([0, 0.126, 0.994, 0.9951, 0.9999, 1])).tolist()
    assert found == ["0%", "13%", "99%", "over 99%", "over 99%", "100%"]
