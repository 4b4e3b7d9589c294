import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.metrics.survival.bucketed import count_pairs_bucketed, count_pairs_td
from recsys_mtl.metrics.survival.concordance import count_pairs, uno_c
from recsys_mtl.metrics.survival.curves import reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from tests.metrics.survival.loops import loop_counts, numbers, tied_outcomes, tied_risks


@st.composite
def tied_curves(draw, num_buckets=5):
    """Outcomes and non-increasing survival, in steps of 1/4."""
    o = draw(tied_outcomes(num_buckets - 1))
    size = len(o) * num_buckets
    steps = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    falls = np.cumsum(np.array(steps, float).reshape(-1, num_buckets), axis=1)
    return 1 - falls / 8, o


@settings(deadline=None)
@given(tied_risks())
def test_counts_equal_the_exact_form_and_the_loop(drawn):
    risk, o = drawn
    counts = count_pairs_bucketed(risk, o, 5)
    assert numbers(counts) == loop_counts(lambda row, stop: risk[row], o)
    assert counts == count_pairs(risk, o)


def test_large_sets_with_and_without_ties_equal_the_exact_form():
    rng = np.random.default_rng(0)
    time = rng.integers(0, 8, 20_000)
    o = Outcomes(time, rng.random(20_000) < 0.6, np.minimum(rng.integers(0, 8, 20_000), time))
    for risk in (rng.normal(size=20_000), np.round(rng.normal(size=20_000), 1)):
        assert count_pairs_bucketed(risk, o, 8) == count_pairs(risk, o)


def test_interval_weights_give_uno():
    rng = np.random.default_rng(1)
    o = Outcomes(rng.integers(0, 8, 500), rng.random(500) < 0.5)
    risk = np.round(rng.normal(size=500), 1)
    g = reverse_kaplan_meier(o)
    weight = np.append(g.inverse(np.arange(6)) ** 2, [0, 0])
    found = numbers(count_pairs_bucketed(risk, o, 8, weight))
    assert found == pytest.approx(numbers(uno_c(risk, o, g, before=6)), rel=1e-12)


def test_empty_and_unusable_input():
    empty = Outcomes(np.zeros(0, int), np.zeros(0, bool))
    assert numbers(count_pairs_bucketed(np.zeros(0), empty, 3)) == (0, 0, 0, 0)
    o = Outcomes(np.array([0, 1]), np.array([True, False]))
    with pytest.raises(ValueError, match="risk has values that are not finite"):
        count_pairs_bucketed(np.array([0.0, np.inf]), o, 2)
    with pytest.raises(ValueError, match="survival has values that are not finite"):
        count_pairs_td(np.array([[0.5, np.nan], [0.5, 0.2]]), o)
    with pytest.raises(ValueError, match="expected 0 to 0"):
        count_pairs_bucketed(np.zeros(2), o, 1)


def test_td_compares_at_the_time_of_the_stop():
    """Curves cross: row 0 is the riskier in interval 0, row 1 in interval 1."""
    curves = np.array([[0.5, 0.5], [0.9, 0.1]])
    early = Outcomes(np.array([0, 1]), np.array([True, False]))
    late = Outcomes(np.array([1, 1]), np.array([True, False]))
    assert numbers(count_pairs_td(curves, early)) == (1, 0, 0, 1)
    assert numbers(count_pairs_td(curves, late)) == (0, 1, 0, 1)


@settings(deadline=None)
@given(tied_curves())
def test_td_counts_equal_the_loop(drawn):
    survival, o = drawn
    expected = loop_counts(lambda row, stop: -survival[row, o.time[stop]], o)
    assert numbers(count_pairs_td(survival, o)) == expected


def test_td_is_harrell_for_proportional_hazards_without_ties():
    rng = np.random.default_rng(2)
    risk = rng.normal(size=300)
    survival = np.exp(-np.exp(risk)[:, None] * np.arange(1, 7) / 6)
    o = Outcomes(rng.integers(0, 6, 300), rng.random(300) < 0.6)
    assert count_pairs_td(survival, o) == count_pairs(risk, o)


def test_td_interval_weights_scale_the_pairs_of_an_interval():
    rng = np.random.default_rng(3)
    survival = np.round(1 - np.sort(rng.random((50, 3))), 1)
    o = Outcomes(rng.integers(0, 3, 50), rng.random(50) < 0.6)
    weight = np.array([2.0, 0.0, 0.5])
    expected = loop_counts(lambda row, stop: -survival[row, o.time[stop]], o, weight[o.time])
    assert numbers(count_pairs_td(survival, o, weight)) == pytest.approx(expected, rel=1e-12)
