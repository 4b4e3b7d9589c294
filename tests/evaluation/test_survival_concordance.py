"""Pairs are of one landmark, in the range's days; the tie rule is that of `Outcomes`."""

import numpy as np
import pytest

from recsys_mtl.evaluation.survival_concordance import (
    Censoring,
    by_landmark,
    concordances,
    top_sales,
)
from recsys_mtl.evaluation.survival_rows import Lives
from recsys_mtl.metrics.survival.concordance import count_pairs

from .survival_world import BOUNDARY, TEST_FROM, hazards, rows_of, simulate


def lives(landmark, exit_, cause, entry=None):
    columns = (landmark, landmark if entry is None else entry, exit_, cause)
    return Lives(*(np.array(column) for column in columns))


NOBODY = Censoring.of(lives([], [], []))


def found(rows, censoring=NOBODY):
    return concordances(rows, censoring, BOUNDARY)


def test_ranges_by_hand():
    """Rows of landmark 1, best first: stops on days 4, 12 and 6, the last is alive on day 20."""
    rows = rows_of(lives([1] * 4, [4, 12, 6, 20], [1, 2, 1, 0]), hazards(np.array([-3, 0, -1, 2])))
    c = found(rows)
    # Until day 9 the stop on day 4 beats three, that on day 6 two; 12 and 20 are no pair.
    assert c["short"]["harrell"]["pairs"] == 5
    assert c["short"]["harrell"]["value"] == 1
    assert c["overall"]["harrell"]["pairs"] == 6
    assert c["long"]["harrell"]["reason"] == "no observed row"


def test_a_stop_on_the_boundary_day_is_long():
    early = rows_of(lives([1, 1], [9, 15], [1, 0]), hazards(np.array([-1, 1])))
    late = rows_of(lives([1, 1], [10, 15], [2, 0]), hazards(np.array([-1, 1])))
    assert found(early)["short"]["harrell"]["value"] == 1
    assert found(late)["short"]["harrell"]["reason"] == "no comparable pair"
    old = rows_of(lives([10, 10], [10, 15], [2, 0]), hazards(np.array([-1, 1])))
    assert found(old)["long"]["harrell"]["value"] == 1


def test_rows_of_two_landmarks_are_no_pair():
    """Both orders are wrong across landmarks and right within."""
    rows = rows_of(
        lives([1, 1, 3, 3], [3, 9, 5, 8], [1, 1, 1, 1]), hazards(np.array([1, 2, -2, -1]))
    )
    c = found(rows)["overall"]
    for kind in ("harrell", "antolini"):
        assert (c[kind]["pairs"], c[kind]["value"]) == (2, 1)


def test_pairs_add_up_over_landmarks_with_late_entry():
    outcome, quality, creative, day = simulate(600, seed=1, late_share=0.4)
    # As rough as this there are ties.
    rows = rows_of(outcome, hazards(np.round(quality)), creative, day)
    assert (outcome.entry > outcome.landmark).mean() > 0.2
    total, concordant, tied = 0, 0.0, 0.0
    for landmark in np.unique(outcome.landmark):
        at = outcome.landmark == landmark
        counts = count_pairs(-np.round(quality[at]), outcome.take(at).until(60))
        total, concordant = total + counts.pairs, concordant + counts.concordant
        tied += counts.tied
    c = found(rows)["overall"]
    assert c["harrell"]["pairs"] == c["antolini"]["pairs"] == total
    assert c["harrell"]["value"] == pytest.approx((concordant + tied / 2) / total)
    # The better of two ads has the lower hazard on every day, so the curves never cross.
    assert c["antolini"]["value"] == pytest.approx(c["harrell"]["value"])
    assert c["harrell"]["tied_share"] == pytest.approx(tied / total) and tied > 0


def test_a_late_entrant_meets_no_stop_before_its_entry():
    """The stop on day 4 comes before row 1 is at risk; that on day 6 meets it."""
    outcome = lives([1, 1, 1], [4, 9, 6], [1, 0, 1], entry=[1, 5, 1])
    rows = rows_of(outcome, hazards(np.array([-1.0, -2.0, 0.0])))
    harrell = found(rows)["overall"]["harrell"]
    assert harrell["pairs"] == 2
    # Row 0 has the higher risk than row 2, as it should; row 1, riskiest of all, outlives row 2.
    assert harrell["value"] == 0.5


def test_the_truth_ranks_better_than_noise_and_the_reverse_loses():
    outcome, quality, creative, day = simulate(1500, seed=2)
    c = {
        name: found(rows_of(outcome, hazards(q), creative, day))
        for name, q in {
            "truth": quality,
            "noise": np.random.default_rng(3).normal(size=len(quality)),
            "reverse": -quality,
        }.items()
    }
    for span in ("short", "long", "overall"):
        for kind in ("harrell", "antolini"):
            truth, noise, reverse = (c[name][span][kind] for name in ("truth", "noise", "reverse"))
            assert truth["value"] - 3 * truth["se"] > 0.55
            assert abs(noise["value"] - 0.5) < 4 * noise["se"]
            assert reverse["value"] == pytest.approx(1 - truth["value"], abs=0.02)


def test_unos_weights_come_from_training_rows_of_the_landmark():
    """Of two training rows of landmark 1 one is censored on day 2: G is 1/2 from then on."""
    train = lives([1, 1, 3], [2, 9, 9], [0, 1, 1])
    censoring = Censoring.of(train)
    outcome = lives([1, 1, 1, 3], [1, 4, 9, 5], [1, 1, 1, 1])
    assert censoring.weights(outcome).tolist() == [1, 4, 0, 1]
    assert censoring.before() == {"1": 9.0, "3": 9.0}
    # Stops on day 1 and 4, worst first and last: the pairs (1, 4), (1, 9) weigh 1, (4, 9) 4.
    rows = rows_of(outcome, hazards(np.array([-1.0, 2.0, 1.0, 0.0])))
    c = found(rows, censoring)["overall"]
    assert c["uno"]["value"] == pytest.approx((1 + 1) / (1 + 1 + 4))
    assert c["harrell"]["value"] == pytest.approx(2 / 3)


def test_without_censoring_in_training_unos_c_is_harrells_before_its_limit():
    outcome, quality, creative, day = simulate(400, seed=4)
    train = simulate(400, seed=5, first=0, end=TEST_FROM)[0]
    everybody_stops = Lives(train.landmark, train.entry, train.exit, np.ones_like(train.cause))
    rows = rows_of(outcome, hazards(quality), creative, day)
    c = found(rows, Censoring.of(everybody_stops))["short"]
    assert c["uno"]["value"] == pytest.approx(c["harrell"]["value"])
    assert c["uno"]["se"] == pytest.approx(c["harrell"]["se"])


def test_landmarks_without_training_rows_have_no_unos_c():
    rows = rows_of(lives([1, 1], [4, 9], [1, 0]), hazards(np.array([-1, 1])))
    c = found(rows, Censoring.of(lives([3], [9], [0])))["overall"]
    assert c["uno"]["reason"] == "no comparable pair" and c["harrell"]["value"] == 1


def test_each_landmark_is_told_where_it_has_a_pair():
    outcome = lives([1, 1, 3, 3], [4, 9, 6, 6], [1, 0, 1, 1])
    c = by_landmark(rows_of(outcome, hazards(np.array([-1, 1, -1, 1]))))
    assert list(c) == ["1"]
    assert c["1"]["value"] == 1 and c["1"]["n"] == 2


def test_top_sales_are_a_quarter_at_each_landmark_and_never_without_spend():
    outcome = lives([1] * 3 + [3] * 8 + [7] * 4, [20] * 15, [0] * 15)
    spend = np.array([0, 0, 0, 5, 1, 2, 3, 4, 8, 6, 7, 0, 0, 0, 9.0])
    rows = rows_of(outcome, hazards(np.zeros(15)), spend=spend)
    assert np.flatnonzero(top_sales(rows)).tolist() == [8, 10, 14]
