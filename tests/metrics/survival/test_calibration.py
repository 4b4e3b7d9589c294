import functools
import operator

import numpy as np
import pytest

from recsys_mtl.metrics.survival.calibration import (
    DCalibration,
    ObservedExpected,
    d_calibration,
    poisson_interval,
    within_interval,
)

SURVIVAL = np.array([0.95, 0.72, 0.55, 0.40, 0.18, 0.05, 0.66, 0.30])
EVENT = np.array([1, 1, 0, 1, 1, 0, 0, 1], dtype=bool)


def test_d_calibration_vector_of_the_reference():
    """Equal to SurvivalEVAL."""
    state = d_calibration(SURVIVAL, EVENT, 5)
    assert state.mass == pytest.approx([2.6667, 1.6667, 1.5758, 1.0909, 1.0], abs=1e-4)
    assert state.statistic == pytest.approx(1.10124, abs=1e-5)
    assert state.p_value == pytest.approx(0.8941, abs=1e-4)
    assert state.largest_deviation == pytest.approx(2.6667 / 8 - 0.2, abs=1e-4)


def test_censored_rows_are_spread_evenly_below_their_survival():
    assert d_calibration(np.array([1.0]), np.array([False]), 4).mass == pytest.approx([0.25] * 4)
    assert d_calibration(np.array([0.0]), np.array([False]), 4).mass.tolist() == [1, 0, 0, 0]
    half = d_calibration(np.array([0.5]), np.array([False]), 4)
    assert half.mass == pytest.approx([0.5, 0.5, 0, 0])


def test_d_calibration_states_add_up():
    parts = [d_calibration(SURVIVAL[i : i + 2], EVENT[i : i + 2], 5) for i in (0, 2, 4, 6)]
    merged = functools.reduce(operator.add, parts)
    np.testing.assert_allclose(merged.mass, d_calibration(SURVIVAL, EVENT, 5).mass, atol=1e-15)


def test_no_rows_have_no_statistic():
    assert np.isnan(DCalibration(np.zeros(5)).statistic)
    with pytest.raises(ValueError, match=r"survival must lie in \[0, 1\]"):
        d_calibration(np.array([1.2]), np.array([True]))


def four_intervals(rows=20_000, seed=0):
    """Survival before and after the interval of the exit under the true hazards, and events."""
    rng = np.random.default_rng(seed)
    hazard = 1 / (1 + np.exp(1 - rng.normal(size=(rows, 1)) * np.ones(4)))
    curve = np.pad(np.cumprod(1 - hazard, axis=1), ((0, 0), (1, 0)), constant_values=1.0)
    stops = rng.random((rows, 4)) < hazard
    event = stops.any(axis=1)
    exit_at = np.where(event, stops.argmax(axis=1), 3)
    each = np.arange(rows)
    return curve[each, exit_at], curve[each, exit_at + 1], event


def test_true_discrete_model_passes_only_when_drawn_within_its_intervals():
    before, after, event = four_intervals()
    assert d_calibration(after, event).statistic > 1000
    drawn = within_interval(before, after, event, seed=1)
    assert d_calibration(drawn, event).p_value > 0.001
    assert d_calibration(drawn, event).largest_deviation < 0.01


def test_draws_are_seeded_and_leave_censored_rows():
    before, after, event = four_intervals(500)
    drawn = within_interval(before, after, event, seed=1)
    np.testing.assert_array_equal(drawn, within_interval(before, after, event, seed=1))
    assert (drawn != within_interval(before, after, event, seed=2)).any()
    assert (drawn[~event] == after[~event]).all()
    assert ((after <= drawn) & (drawn <= before)).all()


def test_curves_that_fall_too_fast_fail():
    before, after, event = four_intervals()
    drawn = within_interval(before**1.2, after**1.2, event)
    assert d_calibration(drawn, event).p_value < 1e-6


def test_poisson_interval_of_known_counts():
    """Garwood: 0 -> (0, 3.689), 10 -> (4.795, 18.390) at 95 %."""
    low, high = poisson_interval(np.array([0, 10]))
    assert low == pytest.approx([0, 4.7954], abs=1e-4)
    assert high == pytest.approx([3.6889, 18.3904], abs=1e-4)


DAYS = np.array([[2, 2], [2, 0], [1, 3]])
HAZARD = np.full((3, 2, 2), 0.1)
STOPS = np.zeros((3, 2, 2), int)
STOPS[0, 1, 1] = STOPS[1, 0, 0] = 1


def test_expected_stops_by_hand():
    """Five days at .1 in each interval; one stop of cause 0 in interval 0, one of 1 in 1."""
    state = ObservedExpected.of(STOPS, DAYS, HAZARD)
    assert state.observed.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(state.expected, [[0.5, 0.5], [0.5, 0.5]])
    cells = state.cells()
    assert [(c.cause, c.bucket, c.observed) for c in cells] == [
        (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1),
    ]  # fmt: skip
    assert cells[0].ratio == pytest.approx(2.0)
    assert (cells[0].low, cells[0].high) == pytest.approx((0.0253 / 0.5, 5.5716 / 0.5), abs=1e-3)
    assert (cells[1].ratio, cells[1].low) == (0, 0)


def test_states_of_rates_add_up():
    parts = [ObservedExpected.of(STOPS[r], DAYS[r], HAZARD[r]) for r in ([0], [1, 2])]
    whole = ObservedExpected.of(STOPS, DAYS, HAZARD)
    merged = parts[0] + parts[1]
    assert (merged.observed == whole.observed).all()
    np.testing.assert_allclose(merged.expected, whole.expected, atol=1e-15)


def test_nothing_expected_has_no_ratio():
    state = ObservedExpected.of(STOPS, DAYS * np.array([1, 0]), HAZARD)
    cell = state.cells()[1]
    assert (cell.expected, cell.ratio, cell.low, cell.high) == (0, None, None, None)


def test_interval_covers_the_true_rate():
    """Of 400 worlds with 30 stops expected, 95 % +- 4 standard errors (1.1 % each)."""
    observed = np.random.default_rng(0).poisson(30.0, (400, 1))
    low, high = poisson_interval(observed)
    assert ((low <= 30) & (high >= 30)).mean() >= 0.95 - 0.044
