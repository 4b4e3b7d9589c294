"""The lowest threshold that is right often enough, on rows whose outcome is known."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.thresholds import choose_thresholds, in_words, needs_validation
from recsys_mtl.spec.policy_file import Policy
from tests.decisions.world import LABEL


def policy(**cut_out):
    return Policy.model_validate(
        {
            "policy_version": 1,
            "horizon": 7,
            "causes": {"cut_out": cut_out},
            "evidence": {"target_ctr": {"default": 0.02}},
        }
    )


def rows(*lives):
    """(probability, entry, exit, event) each."""
    p, entry, exit_, event = (np.array(column) for column in zip(*lives, strict=True))
    return pa.table(
        {"entry": entry, "exit": exit_, "event": event, "stop__cut_out__7d": p.astype(float)}
    )


STOP, ALIVE = (3, 9, 1), (3, 10, 0)
"""Stopped by cut-out on the horizon's last day; followed one day longer."""


def chosen(table, **cut_out):
    return choose_thresholds(policy(**cut_out), LABEL, table)[0]


def test_the_lowest_good_threshold_is_chosen_even_below_a_bad_one():
    """Precision by rank: 1, 1/2, 2/3, 3/4, 3/5."""
    table = rows((0.9, *STOP), (0.8, *ALIVE), (0.7, *STOP), (0.6, *STOP), (0.5, *ALIVE))
    found = chosen(table, precision=0.7, min_rows=1)
    assert (found.value, found.flagged, found.hits) == (0.6, 4, 3)
    assert (found.rows, found.stops, found.precision, found.recall) == (5, 3, 0.75, 1.0)


def test_rows_of_equal_probability_are_flagged_together():
    """At .9 alone a stable sort would see two hits of two; all three are flagged at once."""
    table = rows((0.9, *STOP), (0.9, *STOP), (0.9, *ALIVE))
    assert chosen(table, precision=0.9, min_rows=1).value is None
    assert chosen(table, precision=0.6, min_rows=1).value == 0.9


@pytest.mark.parametrize(
    ("life", "rows_known", "stops"),
    [
        ((3, 9, 1), 1, 1),
        ((3, 10, 1), 1, 0),
        ((3, 5, 2), 1, 0),
        ((3, 8, 0), 0, 0),
        ((3, 9, 0), 1, 0),
    ],
    ids=["last day", "a day late", "other cause", "lost too early", "followed to the end"],
)
def test_an_outcome_is_known_by_a_stop_or_by_following_to_the_end(life, rows_known, stops):
    found = chosen(rows((0.5, *life)), threshold=0.1)
    assert (found.rows, found.stops) == (rows_known, stops)


def test_few_rows_choose_nothing_and_words_say_so():
    table = rows(*[(0.9, *STOP)] * 3, (0.2, *ALIVE))
    found = chosen(table, min_rows=4)
    assert (found.value, found.best, found.flagged) == (None, 0.75, 0)
    text = in_words(found, policy(min_rows=4).causes["cut_out"], 7)
    assert "nothing is stopped for it" in text and "75%" in text
    assert chosen(table, min_rows=3).value == 0.9


def test_without_any_known_row_nothing_is_stopped():
    found = chosen(rows((0.9, 3, 4, 0)))
    assert (found.value, found.rows, found.best, found.recall) == (None, 0, None, None)


def test_a_fixed_threshold_is_measured_when_it_can_be():
    table = rows((0.9, *STOP), (0.8, *ALIVE))
    found = chosen(table, threshold=0.5)
    assert (found.value, found.is_fixed, found.precision) == (0.5, True, 0.5)
    bare = choose_thresholds(policy(threshold=0.5), LABEL, None)[0]
    assert (bare.value, bare.precision) == (0.5, None)
    assert "not measured" in in_words(bare, policy().causes["cut_out"], 7)
    assert not needs_validation(policy(threshold=0.5))
    assert needs_validation(policy())


def test_a_label_without_causes_has_one_threshold_of_its_own_name():
    label = LABEL.model_copy(update={"causes": ()})
    rules = policy().model_copy(update={"causes": {"stop": policy(min_rows=1).causes["cut_out"]}})
    table = rows((0.9, *STOP)).rename_columns(["entry", "exit", "event", "stop__7d"])
    assert [(t.cause, t.value) for t in choose_thresholds(rules, label, table)] == [("stop", 0.9)]
