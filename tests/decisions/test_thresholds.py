"""The lowest threshold that is right often enough where it is chosen, judged elsewhere."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.thresholds import Judges, Rates, choose_thresholds, in_words
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


def chosen(table, test=None, **cut_out):
    return choose_thresholds(policy(**cut_out), LABEL, table, table if test is None else test)[0]


def test_the_lowest_good_threshold_is_chosen_even_below_a_bad_one():
    """Precision by rank: 1, 1/2, 2/3, 3/4, 3/5."""
    table = rows((0.9, *STOP), (0.8, *ALIVE), (0.7, *STOP), (0.6, *STOP), (0.5, *ALIVE))
    found = chosen(table, precision=0.7, min_rows=1)
    assert found.value == 0.6
    assert found.validation == Rates(5, 4, 4, 0.75, 1.0)


def test_the_test_rows_judge_and_do_not_choose():
    valid = rows((0.9, *STOP), (0.6, *STOP), (0.5, *ALIVE))
    test = rows((0.9, *STOP), (0.7, *ALIVE), (0.65, *ALIVE), (0.6, *STOP), (0.2, *STOP))
    found = chosen(valid, test, precision=1.0, min_rows=2)
    assert found.value == 0.6 and found.validation.precision == 1.0
    assert found.test == Rates(5, 4, 4, 0.5, pytest.approx(2 / 3))
    text = in_words(found, policy().causes["cut_out"], 7)
    assert "chosen on 3 validation rows: operators stop 100% of the 2 that reach it" in text
    assert "Of 5 test rows, which had no part in the choice, 4 reach it; operators stop 50%" in text
    assert chosen(valid, test.slice(0, 1), precision=1.0, min_rows=2).value == 0.6


def test_rows_of_equal_probability_are_flagged_together():
    """At .9 alone a stable sort would see two hits of two; all three are flagged at once."""
    table = rows((0.9, *STOP), (0.9, *STOP), (0.9, *ALIVE))
    assert chosen(table, precision=0.9, min_rows=1).value is None
    assert chosen(table, precision=0.6, min_rows=1).value == 0.9


@pytest.mark.parametrize(
    ("life", "known", "precision"),
    [
        ((3, 9, 1), 1, 1.0),
        ((3, 10, 1), 1, 0.0),
        ((3, 5, 2), 1, 0.0),
        ((3, 8, 0), 0, None),
        ((3, 9, 0), 1, 0.0),
    ],
    ids=["last day", "a day late", "other cause", "lost too early", "followed to the end"],
)
def test_an_outcome_is_known_by_a_stop_or_by_following_to_the_end(life, known, precision):
    found = chosen(rows((0.5, *life)), threshold=0.1).test
    assert (found.rows, found.flagged, found.known, found.precision) == (1, 1, known, precision)


def test_the_lost_are_stood_for_by_those_that_were_followed_longer():
    """Of three rows at risk on the second day one is lost: the others count 3/2."""
    label = LABEL.model_copy(update={"horizons": (3,)})
    table = rows((0.9, 1, 1, 1), (0.8, 1, 2, 0), (0.7, 1, 3, 1), (0.6, 1, 3, 0))
    table = table.rename_columns([*table.column_names[:3], "stop__cut_out__3d"])
    judges = Judges.of(table, "cut_out", label, 3)
    np.testing.assert_allclose(judges.weight, [1, 0, 1.5, 1.5])
    assert judges.rates(0.0).precision == pytest.approx(2.5 / 4)
    assert judges.rates(0.7).recall == 1.0 and judges.rates(0.8).recall == pytest.approx(1 / 2.5)


def test_censoring_does_not_move_the_precision():
    """Counting the known rows alone overrates it: a stop shortens what must be followed."""
    rng = np.random.default_rng(5)
    count, horizon = 20_000, 7
    life, lost = rng.geometric(0.15, count), rng.geometric(0.12, count)
    followed = np.minimum(life, lost)
    event = (life <= lost).astype(np.int8)
    table = pa.table(
        {
            "entry": np.full(count, 3),
            "exit": followed + 2,
            "event": event,
            "stop__cut_out__7d": np.full(count, 0.5),
        }
    )
    truth = 1 - 0.85**horizon
    judges = Judges.of(table, "cut_out", LABEL, horizon)
    assert judges.rates(0.5).precision == pytest.approx(truth, abs=0.015)
    naive = judges.stopped[judges.weight > 0].mean()
    assert naive > truth + 0.05


def test_few_rows_choose_nothing_and_words_say_so():
    table = rows(*[(0.9, *STOP)] * 3, (0.2, *ALIVE))
    found = chosen(table, min_rows=4)
    assert (found.value, found.best, found.test.flagged) == (None, 0.75, 0)
    text = in_words(found, policy(min_rows=4).causes["cut_out"], 7)
    assert "nothing is stopped for it" in text and "75%" in text
    assert chosen(table, min_rows=3).value == 0.9


def test_rows_without_outcome_do_not_make_up_the_number():
    table = rows(*[(0.9, *STOP)] * 3, (0.95, 3, 4, 0))
    assert chosen(table, min_rows=4).value is None and chosen(table, min_rows=3).value == 0.9


def test_without_any_known_row_nothing_is_stopped():
    for table in (rows((0.9, 3, 4, 0)), rows((0.9, *STOP)).slice(1)):
        found = chosen(table)
        assert (found.value, found.best, found.test.recall) == (None, None, None)


def test_a_fixed_threshold_is_judged_on_test_rows_only():
    table = rows((0.9, *STOP), (0.8, *ALIVE))
    found = chosen(table.slice(0, 0), table, threshold=0.5)
    assert (found.value, found.is_fixed, found.test.precision) == (0.5, True, 0.5)
    assert found.validation is None
    assert "as the policy says. Of 2 test rows" in in_words(found, policy().causes["cut_out"], 7)
    high = chosen(table.slice(0, 0), table, threshold=0.95)
    assert "none with a known outcome" in in_words(high, policy().causes["cut_out"], 7)


def test_a_label_without_causes_has_one_threshold_of_its_own_name():
    label = LABEL.model_copy(update={"causes": ()})
    rules = policy().model_copy(update={"causes": {"stop": policy(min_rows=1).causes["cut_out"]}})
    table = rows((0.9, *STOP)).rename_columns(["entry", "exit", "event", "stop__7d"])
    found = choose_thresholds(rules, label, table, table)
    assert [(t.cause, t.value) for t in found] == [("stop", 0.9)]
