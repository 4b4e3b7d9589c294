"""A policy played back over lives whose ends are known."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.replay import Asked, in_words, replay
from recsys_mtl.decisions.thresholds import Rates, Threshold
from recsys_mtl.decisions.value import Value, with_genre
from tests.decisions.world import BAD, GOOD, LABEL, THRESHOLDS, TIRED, life, policy

WINDOW = pa.concat_tables(
    [
        life("stopped", (0, 3), BAD, stopped=True),
        life("runs on", (0, 9), BAD, spend=500.0),
        life("good", (0, 2), GOOD, stopped=True),
        life("new", (7, 9), BAD),
        life("tired", (0, 9), TIRED),
        life("gone at once", (0, 0), BAD, stopped=True),
    ]
)


def played(days=WINDOW, **restraint):
    return replay(days, policy(keep_live=0, **restraint), LABEL, THRESHOLDS)


def test_what_a_policy_would_have_done_and_what_came_of_it():
    """It needs two days of signs, so it stops on day 1, and the late one on day 8."""
    found = played()
    assert (found.first_day, found.last_day, found.creatives) == ("2026-05-01", "2026-05-10", 6)
    assert found.stop == Asked(3, stopped=1, stopped_by_next_day=0, ran_on=1, unknown=1)
    assert found.operators == {"cut_out": 3} and found.policy_first == {"cut_out": 1}
    # Days 1, 2 and 3 of the one; the horizon's seven of the other.
    assert found.days_spared == 3
    assert found.spared == {"impressions": 30, "clicks": 3, "conversions": 0, "spend": 7.5}
    assert found.lost == {"impressions": 70, "clicks": 7, "conversions": 0, "spend": 17.5}
    assert found.lost_in_top_quarter == 1
    assert found.prepare_replacement == Asked(1, 0, 0, 1, 0)


def test_hysteresis_moves_the_stop():
    found = played(hysteresis_days=1)
    assert found.stop == Asked(4, stopped=2, stopped_by_next_day=1, ran_on=1, unknown=1)
    assert found.days_spared == 5 and found.policy_first == {"cut_out": 2}


def test_what_was_not_known_to_be_alive_is_not_decided_about_but_counts():
    """Three days unseen: one day of signs is too few; its operator's stop is counted."""
    found = played(life("a", (0, 3), BAD, stopped=True, unseen=3))
    assert found.stop.creatives == 0 and found.operators == {"cut_out": 1}
    found = played(life("a", (0, 3), BAD, stopped=True, unseen=2))
    assert found.stop == Asked(1, 1, 1, 0, 0) and found.spared["impressions"] == 10


def test_a_stop_on_the_horizons_last_day_counts_and_one_later_ran_on():
    for last, expected in ((7, Asked(1, 1, 0, 0, 0)), (8, Asked(1, 0, 0, 1, 0))):
        assert played(life("a", (0, last), BAD, stopped=True)).stop == expected


def test_what_was_stopped_is_gone_for_the_last_of_its_campaign():
    days = pa.concat_tables([life("a", (0, 6), BAD), life("b", (0, 6), BAD)])
    days = days.set_column(2, "campaign", pa.array(["k"] * days.num_rows))
    found = replay(days, policy(keep_live=1), LABEL, THRESHOLDS)
    assert found.stop.creatives == 1
    assert found.prepare_replacement.creatives == 1


def test_the_order_of_rows_does_not_matter():
    shuffled = WINDOW.take(pa.array(np.random.default_rng(2).permutation(WINDOW.num_rows)))
    assert played(shuffled) == played()


def test_nobody_alive_is_said():
    assert played(WINDOW.slice(0, 0)) is None
    assert in_words(None, 7) == [
        "No test creative was alive in the test window, so the policy was not played back."
    ]


def test_words_hold_the_numbers():
    text = " ".join(in_words(played(), 7))
    assert "Played back on 6 creatives of test campaigns" in text
    assert "from 2026-05-01 to 2026-05-10, this policy would have stopped 3." in text
    assert "operators stopped 1 within 7 days, 0 of them on that day or the next; 1 ran on" in text
    assert "spared 3 days with 30 impressions, 3 clicks, 0 conversions and a spend of 7.50." in text
    assert "The 1 that operators let run would have lost 70 impressions" in text
    assert "Operators stopped 3 creatives in that time, 1 of them after the policy." in text
    assert "It would have asked for 1 replacements." in text


def test_genres_with_enough_rows_are_judged_by_themselves():
    """Games are stopped where the model says so, food is not."""
    genre = np.repeat(["games", "food", "travel"], [40, 40, 29])
    stopped = genre == "games"
    test = pa.table(
        {
            "row_id": [f"r{i}" for i in range(109)],
            "entry": np.full(109, 3),
            "exit": np.where(stopped, 4, 20),
            "event": stopped.astype(np.int8),
            "stop__cut_out__7d": np.full(109, 0.9),
        }
    )
    rows = pa.table({"row_id": test["row_id"], "genre": genre})
    thresholds = [Threshold("cut_out", 0.8), Threshold("wear_out", None)]
    test = with_genre(test, rows.take(pa.array(np.arange(109)[::-1])))
    value = Value.of(policy(), LABEL, thresholds, test, WINDOW)
    assert value.genres == {
        "cut_out": {"food": Rates(40, 40, 40, 0.0, None), "games": Rates(40, 40, 40, 1.0, 1.0)}
    }
    record = value.as_json()
    assert record["replay"]["stop"] == asdict(value.replay.stop)
    assert record["sentences"] == in_words(value.replay, 7)


@pytest.mark.parametrize("hold_out", [0.0, 0.999999])
def test_the_hold_out_is_never_stopped_here_either(hold_out):
    assert played(hold_out=hold_out).stop.creatives == (0 if hold_out else 3)
