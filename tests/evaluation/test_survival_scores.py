import numpy as np
import pytest

from recsys_mtl.evaluation.survival_rows import Lives
from recsys_mtl.evaluation.survival_scores import StopsWithin, brier_scores, d_calibrated
from recsys_mtl.metrics.clusters import Clusters

from .survival_world import CAUSES, EDGES, TEST_FROM, hazards, rows_of, simulate


def lives(landmark, exit_, cause, entry=None):
    columns = (landmark, landmark if entry is None else entry, exit_, cause)
    return Lives(*(np.array(column) for column in columns))


TRAIN = lives([1, 1, 1, 1], [1, 2, 5, 5], [1, 1, 0, 0])
"""Kaplan-Meier: .75 after day 1, .5 after day 2 and from then on."""
HALF = np.full((3, 5), 0.5)
"""Every day half of the rows are stopped."""


def test_brier_scores_by_hand_beside_kaplan_meier():
    """Stops on days 1 and 3, and one alive until the log ends with its day 4."""
    rows = rows_of(lives([1, 1, 1], [1, 3, 4], [1, 1, 0]), HALF)
    found = brier_scores(rows, TRAIN, (2, 4))
    after = found["horizons"]["2"]
    # S(2) = 1/4 by the model and 1/2 by the curve of the training rows.
    assert after["model"]["value"] == pytest.approx((1 / 16 + 2 * 9 / 16) / 3)
    assert after["kaplan_meier"]["value"] == pytest.approx(1 / 4)
    assert after["difference"]["value"] == pytest.approx(19 / 48 - 1 / 4)
    assert after["rows"] == 3
    # After day 4: two stopped, one alive.
    model = found["horizons"]["4"]["model"]["value"]
    assert model == pytest.approx((2 / 16**2 + (15 / 16) ** 2) / 3)
    assert found["lost_early"] == 0


def test_days_count_from_the_entry_given_alive_then():
    """At risk from day 3 on; by Kaplan-Meier nobody is stopped then."""
    rows = rows_of(lives([1, 3], [3, 4], [1, 0], entry=[3, 3]), HALF[:2])
    after = brier_scores(rows, TRAIN, (1,))["horizons"]["1"]
    assert after["model"]["value"] == pytest.approx(1 / 4)
    assert after["kaplan_meier"]["value"] == pytest.approx((1 + 0) / 2)


def test_rows_count_as_long_as_it_was_planned_to_follow_them():
    """The log ends with day 6 of row 0; row 1 starts 3 days later, row 2's campaign ends day 2."""
    outcome = lives([1, 1, 1], [6, 1, 2], [0, 1, 0])
    days, plan = np.array([0, 3, 0]), np.array([0, 0, 2])
    rows = rows_of(outcome, HALF, day=days, planned_end=plan)
    found = brier_scores(rows, TRAIN, (2, 3, 4, 7))["horizons"]
    assert [found[k]["rows"] for k in ("2", "3", "4")] == [3, 2, 1]
    assert found["4"]["model"]["value"] == pytest.approx((15 / 16) ** 2)
    assert found["7"]["model"]["value"] is None
    assert found["7"]["model"]["reason"] == "no row is known at time 7"


def test_stops_after_the_planned_end_are_not_looked_at():
    """Else the rows of extended campaigns would count only if they stop."""
    outcome = lives([1, 1], [4, 9], [1, 0])
    rows = rows_of(outcome, HALF[:2], planned_end=np.array([2, 2]))
    found = brier_scores(rows, TRAIN, (2,))
    assert found["horizons"]["2"]["model"]["value"] == pytest.approx((3 / 4) ** 2)
    assert found["integrated"]["days"] == 2
    over = rows_of(lives([5, 5], [8, 9], [1, 0]), HALF[:2], planned_end=np.array([2, 2]))
    assert brier_scores(over, TRAIN, (4,))["horizons"]["4"]["rows"] == 2


def test_a_paused_row_counts_while_it_was_seen():
    outcome = lives([1, 1], [2, 6], [0, 0])
    found = brier_scores(rows_of(outcome, HALF[:2]), TRAIN, (2, 3))
    assert found["lost_early"] == 1
    assert [found["horizons"][k]["rows"] for k in ("2", "3")] == [2, 1]


def test_the_truth_beats_one_curve_for_all():
    outcome, quality, creative, day = simulate(1500, seed=1, late_share=0.2)
    train = simulate(1500, seed=2, first=0, end=TEST_FROM)[0]
    difference = {
        name: brier_scores(rows_of(outcome, hazards(q), creative, day), train, (3,))["integrated"][
            "difference"
        ]
        for name, q in (("truth", quality), ("reverse", -quality))
    }
    assert difference["truth"]["value"] < -4 * difference["truth"]["se"]
    assert difference["reverse"]["value"] > 4 * difference["reverse"]["se"]


def test_true_hazards_are_d_calibrated_and_doubled_ones_are_not():
    outcome, quality, creative, day = simulate(3000, seed=3, late_share=0.3)
    true, doubled = (
        d_calibrated(rows_of(outcome, hazard, creative, day))
        for hazard in (hazards(quality), np.minimum(2 * hazards(quality), 0.99))
    )
    assert true["p_value"] > 0.01 and true["largest_deviation"] < 0.02
    assert doubled["p_value"] < 1e-6
    # They live longer than promised: survival at the stop is too low.
    assert doubled["bins"][0] > true["bins"][0] + 0.05
    assert sum(true["bins"]) == pytest.approx(1)


def test_a_creative_counts_once_in_d_calibration_by_its_first_row():
    outcome = lives([3, 1, 1], [9, 9, 4], [0, 0, 1])
    rows = rows_of(outcome, hazards(np.zeros(3)), creative=np.array([5, 5, 2]))
    found = d_calibrated(rows)
    assert found["creatives"] == 2
    assert found == d_calibrated(rows)
    without = rows.take(np.array([1, 2]))
    assert found["bins"] == d_calibrated(without)["bins"]


def within(outcome, predicted, causes=CAUSES):
    size = len(outcome.exit)
    return StopsWithin(outcome, Clusters.singletons(size), predicted, causes, int(EDGES[-1]))


def test_observed_shares_are_kaplan_meiers_and_by_cause_aalen_johansens():
    """Days from entry: stop on 1 by the first cause, lost after 1, stop on 2 by the second, alive.

    Alive after day 1: 3/4; on day 2 one of two is stopped, so 3/8 are by the second cause.
    """
    outcome = lives([1, 1, 1, 3], [1, 1, 2, 9], [1, 0, 2, 0])
    p = np.array([[0.6, 0.4, 0.2]] * 4)
    found = within(outcome, {2: p}).calibration()["2"]
    assert found["predicted"] == pytest.approx(0.6)
    assert found["observed"] == pytest.approx(5 / 8)
    assert found["causes"]["cut_out"]["observed"] == pytest.approx(1 / 4)
    assert found["causes"]["wear_out"]["observed"] == pytest.approx(3 / 8)
    assert found["rows"] == 4 and found["se"] > 0


def test_a_horizon_beyond_every_row_has_a_reason():
    found = within(lives([1, 1], [2, 3], [1, 0]), {5: np.ones((2, 3))}).calibration()["5"]
    assert found == {"rows": 2, "reason": "no row is followed for 5 days"}
    all_gone = within(lives([1, 1], [2, 3], [1, 1]), {5: np.ones((2, 3))}).calibration()["5"]
    assert all_gone["observed"] == pytest.approx(1)


def test_true_probabilities_are_met_within_their_errors_also_without_causes():
    outcome, quality, creative, day = simulate(2000, seed=4, late_share=0.3)
    rows = rows_of(outcome, hazards(quality), creative, day)
    since = outcome.entry - 1
    predicted = {h: 1 - rows.curves.alive(since, since[:, None] + h) for h in (3, 7)}
    one_cause = Lives(outcome.landmark, outcome.entry, outcome.exit, np.minimum(outcome.cause, 1))
    found = within(one_cause, predicted, ()).calibration()
    for cell in found.values():
        assert abs(cell["observed"] - cell["predicted"]) < 4 * cell["se"]
        assert cell["causes"] == {} and cell["se"] < 0.02
