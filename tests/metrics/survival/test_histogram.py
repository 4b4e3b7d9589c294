import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings

from recsys_mtl.metrics.survival.bucketed import count_pairs_bucketed, count_pairs_td
from recsys_mtl.metrics.survival.histogram import RiskCells, td_histogram
from recsys_mtl.metrics.survival.outcomes import Outcomes
from tests.metrics.survival.loops import loop_counts, numbers, tied_risks


def world(rows=5000, seed=0, late_entry=True):
    rng = np.random.default_rng(seed)
    time = rng.integers(0, 8, rows)
    entry = np.minimum(rng.integers(0, 5, rows), time) if late_entry else None
    risk = 1 / (1 + np.exp(0.4 * time + rng.normal(size=rows)))
    return risk, Outcomes(time, rng.random(rows) < 0.6, entry)


@settings(deadline=None)
@given(tied_risks(levels=4))
def test_risks_on_the_grid_of_bins_are_counted_exactly(drawn):
    risk, o = drawn
    state = RiskCells.of(risk, o, num_buckets=5, num_bins=4).state(o.weight)
    assert numbers(state.counts()) == loop_counts(lambda row, stop: risk[row], o)


@pytest.mark.parametrize("late_entry", [False, True])
@pytest.mark.parametrize("num_bins", [4, 64, 4096])
def test_value_is_within_the_returned_bound(num_bins, late_entry):
    risk, o = world(late_entry=late_entry)
    state = RiskCells.of(risk, o, 8, num_bins).state()
    exact, found = count_pairs_bucketed(risk, o, 8), state.counts()
    assert abs(found.value - exact.value) <= state.error_bound()
    assert found.pairs == exact.pairs == found.total
    assert state.error_bound() < 2.1 / num_bins
    assert num_bins < 4096 or found.value == pytest.approx(exact.value, abs=1e-4)


def test_parts_add_up_in_any_order_bit_by_bit():
    risk, o = world()
    whole = RiskCells.of(risk, o, 8).state()
    parts = []
    for rows in np.split(np.random.default_rng(1).permutation(len(o)), [0, 17, 900, 4000]):
        parts.append(RiskCells.of(risk[rows], o.take(rows), 8).state())
    for order in (parts, parts[::-1]):
        merged = functools.reduce(operator.add, order)
        assert merged.stops.dtype == np.int64
        np.testing.assert_array_equal(merged.stops, whole.stops)
        np.testing.assert_array_equal(merged.partners, whole.partners)
        np.testing.assert_array_equal(merged.rows, whole.rows)
    assert parts[0].counts().pairs == 0 and parts[0].error_bound() == 0


def test_state_of_eight_intervals_is_half_a_megabyte():
    state = RiskCells.of(*world(), 8).state()
    assert state.stops.nbytes + state.partners.nbytes == 2 * 8 * 4096 * 8


def test_weights_and_interval_weights_equal_the_exact_form():
    risk, o = world()
    risk = np.floor(risk * 64) / 64
    weight = np.random.default_rng(2).integers(0, 3, len(o)).astype(float)
    by_interval = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 0.0, 1.0, 1.0])
    weighted = Outcomes(o.time, o.event, o.entry, weight)
    found = RiskCells.of(risk, o, 8, 64).state(weight).counts(by_interval)
    expected = count_pairs_bucketed(risk, weighted, 8, by_interval)
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-12)


def test_highest_risk_falls_in_the_last_bin():
    o = Outcomes(np.array([0, 1]), np.array([True, False]))
    state = RiskCells.of(np.array([1.0, 0.0]), o, 2, 8).state()
    assert numbers(state.counts()) == (1, 0, 0, 1)


@pytest.mark.parametrize("risk", [[-0.1, 0.5], [0.5, 1.1], [0.5, np.nan]])
def test_risks_outside_the_unit_interval_are_refused(risk):
    o = Outcomes(np.array([0, 1]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"risks must lie in \[0, 1\]"):
        RiskCells.of(np.array(risk), o, 2)


def test_narrow_interval_numbers_do_not_overflow():
    risk, o = world()
    narrow = Outcomes(o.time.astype(np.int8), o.event, o.entry.astype(np.int8))
    assert (
        RiskCells.of(risk, narrow, 8).state().counts() == RiskCells.of(risk, o, 8).state().counts()
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_td_is_exact_on_the_grid_and_within_the_bound_off_it(weighted):
    rng = np.random.default_rng(3)
    _, o = world(2000)
    weight = rng.integers(0, 3, len(o)).astype(float) if weighted else None
    o = Outcomes(o.time, o.event, o.entry, weight)
    survival = np.exp(-np.cumsum(rng.random((len(o), 8)), axis=1))
    state = td_histogram(survival, o)
    exact = count_pairs_td(survival, o)
    assert abs(state.counts().value - exact.value) <= state.error_bound() < 0.01
    assert state.counts().pairs == exact.pairs
    rounded = np.floor(survival * 64) / 64 + 1 / 128
    on_grid = td_histogram(rounded, o, 64).counts()
    assert numbers(on_grid) == numbers(count_pairs_td(rounded, o))


def test_td_states_add_up():
    _, o = world(300)
    survival = np.exp(-np.cumsum(np.random.default_rng(4).random((300, 8)), axis=1))
    half = np.arange(300) < 120
    parts = [td_histogram(survival[r], o.take(r)) for r in (half, ~half)]
    assert (parts[0] + parts[1]).counts() == td_histogram(survival, o).counts()
