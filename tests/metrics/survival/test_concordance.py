import numpy as np
import pytest
from hypothesis import given, settings

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import difference
from recsys_mtl.metrics.survival.concordance import (
    PairCounts,
    count_pairs,
    harrell_c,
    harrell_c_on,
    largest,
    uno_c,
)
from recsys_mtl.metrics.survival.curves import reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from tests.metrics.survival.loops import loop_counts, numbers, outlives, tied_risks


def world(seed=0, rows=400, days=8):
    """Tied risks and times, late entry; the risk carries signal."""
    rng = np.random.default_rng(seed)
    risk = np.round(rng.normal(size=rows), 1)
    time = np.minimum(rng.geometric(1 / (1 + np.exp(1.5 - risk))), days)
    entry = np.minimum(rng.integers(0, 4, rows), time)
    return risk, Outcomes(time, (rng.random(rows) < 0.7) & (time < days), entry)


def test_tie_case_of_the_reference():
    """Two stops at one time are no pair: 6 of 8; counting that pair gives 5.5 / 7 = .786."""
    outcomes = Outcomes(np.array([1, 2, 2, 2, 3]), np.array([1, 1, 1, 0, 0], bool))
    counts = count_pairs(np.array([5, 4, 1, 3, 2]), outcomes)
    assert numbers(counts) == (6, 2, 0, 8)
    assert counts.value == 0.75


def test_late_entrants_are_partners_from_their_entry_on():
    """The stop on day 2 meets row 1 (entry 2) and not row 2 (entry 3)."""
    outcomes = Outcomes(np.array([2, 5, 5]), np.array([1, 0, 0], bool), np.array([0, 2, 3]))
    assert numbers(count_pairs(np.array([0.5, 0.1, 0.9]), outcomes)) == (1, 0, 0, 1)


@settings(deadline=None)
@given(tied_risks())
def test_counts_equal_the_loop_over_pairs(drawn):
    risk, o = drawn
    assert numbers(count_pairs(risk, o)) == loop_counts(lambda row, stop: risk[row], o)


def test_counts_equal_the_loop_on_exact_times():
    rng = np.random.default_rng(3)
    time = rng.exponential(size=150)
    o = Outcomes(time, rng.random(150) < 0.5, time * rng.random(150))
    risk = rng.normal(size=150)
    assert numbers(count_pairs(risk, o)) == loop_counts(lambda row, stop: risk[row], o)


@settings(deadline=None)
@given(tied_risks(weighted=False))
def test_flipping_the_sign_swaps_concordant_and_discordant(drawn):
    risk, o = drawn
    up, down = count_pairs(risk, o), count_pairs(-risk, o)
    assert numbers(down) == (up.discordant, up.concordant, up.tied, up.pairs)


def test_only_the_order_of_risks_matters():
    risk, o = world()
    assert count_pairs(np.exp(risk), o) == count_pairs(risk, o)
    assert count_pairs(risk, o).value > 0.6


def test_rows_of_weight_zero_are_absent_and_weight_two_is_a_copy():
    risk, o = world(rows=60)
    weight = np.random.default_rng(1).integers(0, 3, 60)
    weighted = Outcomes(o.time, o.event, o.entry, weight)
    copies = np.repeat(np.arange(60), weight)
    copied = count_pairs(risk[copies], o.take(copies))
    assert numbers(count_pairs(risk, weighted))[:3] == numbers(copied)[:3]
    present = weight > 0
    assert count_pairs(risk, weighted).pairs == count_pairs(risk[present], o.take(present)).pairs


def test_risks_may_be_whole_numbers_of_any_type():
    o = Outcomes(np.array([1, 2, 3]), np.array([True, True, False]))
    assert numbers(count_pairs(np.array([2, 1, 0], np.uint8), o)) == (3, 0, 0, 3)


def test_nothing_to_compare():
    o = Outcomes(np.array([1, 2]), np.array([False, False]))
    assert numbers(count_pairs(np.array([0.1, 0.2]), o)) == (0, 0, 0, 0)
    assert np.isnan(PairCounts(0, 0, 0, 0).value)
    estimate = harrell_c(np.array([0.1, 0.2]), o)
    assert (estimate.value, estimate.reason) == (None, "no comparable pair")
    empty = Outcomes(np.zeros(0), np.zeros(0, bool))
    assert harrell_c(np.zeros(0), empty).reason == "no observed row"


def test_risks_must_be_finite():
    o = Outcomes(np.array([1, 2]), np.array([True, False]))
    with pytest.raises(ValueError, match="risk has values that are not finite"):
        count_pairs(np.array([np.nan, 0.0]), o)
    assert harrell_c(np.array([np.nan, 0.0]), o).reason == "1 predictions are not finite"


def test_with_one_stop_time_c_is_the_auc_with_its_error():
    rng = np.random.default_rng(5)
    labels = rng.random(500) < 0.3
    risk = np.round(rng.normal(size=500) + labels, 1)
    campaigns = Clusters.of(rng.integers(0, 40, 500))
    c = harrell_c(risk, Outcomes(np.where(labels, 1, 2), labels), campaigns)
    a = auc(risk, labels, campaigns)
    assert c.value == pytest.approx(a.value, abs=1e-15)
    assert c.se == pytest.approx(a.se, rel=1e-12)
    np.testing.assert_allclose(c.psi, a.psi, atol=1e-12)
    assert (c.n, c.n_pos, c.n_clusters) == (a.n, a.n_pos, a.n_clusters)
    assert c.extra["pairs"] == labels.sum() * (~labels).sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_influence_value_is_the_effect_of_a_little_more_weight(weighted):
    risk, o = world(rows=80)
    base = np.random.default_rng(2).random(80) + 0.5 if weighted else np.ones(80)
    estimate = harrell_c(risk, Outcomes(o.time, o.event, o.entry, base))
    assert estimate.psi.sum() == pytest.approx(0, abs=1e-9)
    for row in range(80):
        sides = []
        for step in (1e-6, -1e-6):
            weight = base.copy()
            weight[row] *= 1 + step
            sides.append(count_pairs(risk, Outcomes(o.time, o.event, o.entry, weight)).value)
        slope = (sides[0] - sides[1]) / 2e-6
        assert estimate.psi[row] / 80 == pytest.approx(slope, abs=1e-8)


def test_influence_values_follow_their_rows():
    risk, o = world()
    shuffle = np.random.default_rng(0).permutation(len(o))
    straight, shuffled = harrell_c(risk, o), harrell_c(risk[shuffle], o.take(shuffle))
    assert shuffled.value == straight.value
    np.testing.assert_allclose(shuffled.psi, straight.psi[shuffle], atol=1e-12)


def test_standard_error_is_the_spread_between_samples():
    """Of 150 samples of 400 rows; the spread of that spread is 6 %."""
    estimates = [harrell_c(*world(seed)) for seed in range(150)]
    spread = np.std([e.value for e in estimates], ddof=1)
    assert np.mean([e.se for e in estimates]) == pytest.approx(spread, rel=0.15)


def test_models_on_the_same_rows_are_compared_in_pairs():
    risk, o = world()
    noisy = risk + np.random.default_rng(9).normal(size=len(risk)) * 0.1
    better, worse = harrell_c(risk, o), harrell_c(noisy, o)
    gap = difference(better, worse)
    assert gap.value == better.value - worse.value
    assert gap.se < 0.5 * better.se


def test_subsets_keep_pairs_within_them():
    risk, o = world(rows=60)
    sales = np.random.default_rng(4).random(60)
    found = harrell_c_on({"overall": np.ones(60, bool), "top": largest(sales, 0.25)}, risk, o)
    top = set(np.argsort(sales)[-15:])
    pairs = [
        np.sign(risk[i] - risk[j]) for i in top for j in top if o.event[i] and outlives(o, j, i)
    ]
    assert found["top"].n == 15
    assert found["top"].extra["pairs"] == len(pairs)
    assert found["top"].value == pytest.approx(np.mean(pairs) / 2 + 0.5, abs=1e-15)
    assert found["overall"].value == harrell_c(risk, o).value


def test_largest_takes_ties_with_the_last():
    assert largest(np.array([1, 5, 3, 3, 0, 3, 1, 1]), 0.25).tolist() == [
        False, True, True, True, False, True, False, False,
    ]  # fmt: skip
    assert largest(np.array([2.0, 1.0]), 0.01).tolist() == [True, False]


UNO = Outcomes(
    np.array([11, 11, 26, 89, 128, 299, 300]), np.array([1, 0, 0, 1, 0, 1, 0], dtype=bool)
)
UNO_RISK = np.array([-0.02, 1.20, -0.56, -1.33, -0.81, 1.02, -1.29])


def test_uno_tie_case_equals_scikit_survival():
    """scikit-survival issue 428: .374269; R's survAUC, with another tie rule, gives .412903."""
    counts = uno_c(UNO_RISK, UNO, reverse_kaplan_meier(UNO), before=299)
    assert counts.value == pytest.approx(0.37426900584795325, abs=1e-12)
    assert counts.pairs == 6 + 3


def test_uno_without_censoring_before_the_limit_is_harrell():
    risk, o = world()
    uncensored = Outcomes(o.time, o.time < 8)
    counts = uno_c(risk, uncensored, reverse_kaplan_meier(uncensored), before=8)
    assert counts == count_pairs(risk, uncensored)


def test_uno_equals_weighted_loop():
    risk, o = world()
    o = Outcomes(o.time, o.event)
    g = reverse_kaplan_meier(o)
    used = o.event & (o.time < 6)
    factor = np.where(used, 1 / g.at(np.minimum(o.time, 5)) ** 2, 0)
    expected = loop_counts(lambda row, stop: risk[row], o, factor)
    assert numbers(uno_c(risk, o, g, before=6)) == pytest.approx(expected, rel=1e-12)


def test_uno_refuses_a_stop_where_nobody_is_uncensored():
    """G falls to 0 at 4, where the last training row is censored; a stop at 4 has no weight."""
    train = Outcomes(np.array([1, 2, 4]), np.array([True, True, False]))
    test = Outcomes(np.array([1, 4, 5]), np.array([True, True, False]))
    g = reverse_kaplan_meier(train)
    with pytest.raises(ValueError, match="G is 0 at time 4"):
        uno_c(np.array([3.0, 2.0, 1.0]), test, g, before=5)
    assert uno_c(np.array([3.0, 2.0, 1.0]), test, g, before=4).pairs == 2


def test_uno_refuses_times_beyond_the_training_rows():
    train = Outcomes(np.array([1, 2, 4]), np.array([True, True, True]))
    test = Outcomes(np.array([1, 5, 6]), np.array([True, True, False]))
    with pytest.raises(ValueError, match="1 times lie beyond 4"):
        uno_c(np.array([3.0, 2.0, 1.0]), test, reverse_kaplan_meier(train), before=6)
