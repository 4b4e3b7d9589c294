import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.metrics.survival.curves import (
    StepCurve,
    aalen_johansen,
    kaplan_meier,
    reverse_kaplan_meier,
)
from recsys_mtl.metrics.survival.outcomes import Outcomes
from tests.metrics.survival.loops import day_loop_survival, tied_outcomes

FIVE = Outcomes(np.array([1, 2, 2, 3, 4]), np.array([1, 1, 0, 0, 1], bool))


def test_kaplan_meier_by_hand():
    """4/5, then 3/4 of it with two at day 2 still at risk, then the last row."""
    curve = kaplan_meier(FIVE)
    assert curve.times.tolist() == [1, 2, 4]
    assert curve.values == pytest.approx([0.8, 0.6, 0.0])
    assert curve.at(np.array([0, 1, 1.5, 2, 3, 9])) == pytest.approx([1, 0.8, 0.8, 0.6, 0.6, 0])


def test_reverse_kaplan_meier_by_hand():
    """On day 2 the stop has left before the censoring: 1 of 3; on day 3 1 of 2."""
    curve = reverse_kaplan_meier(FIVE)
    assert curve.times.tolist() == [2, 3]
    assert curve.values == pytest.approx([2 / 3, 1 / 3])


def test_entry_day_is_at_risk():
    """The stop on day 2 has two at risk with entry 2, one with entry 3."""
    event = np.array([True, False])
    with_entry_2 = Outcomes(np.array([2, 5]), event, np.array([0, 2]))
    with_entry_3 = Outcomes(np.array([2, 5]), event, np.array([0, 3]))
    assert kaplan_meier(with_entry_2).values.tolist() == [0.5]
    assert kaplan_meier(with_entry_3).values.tolist() == [0.0]


@settings(deadline=None)
@given(tied_outcomes(min_size=1, weighted=False))
def test_kaplan_meier_equals_a_loop_over_days(o):
    days = np.arange(o.time.max() + 1)
    expected = [float(s) for s in day_loop_survival(o, o.event)]
    assert kaplan_meier(o).at(days) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(tied_outcomes(min_size=1, weighted=False))
def test_reverse_curve_equals_that_of_censorings_just_after_the_stops(o):
    """Censorings moved by half a day are events of a plain Kaplan-Meier."""
    halves = 2 * o.time + ~o.event
    entry = None if o.entry is None else 2 * o.entry
    moved = kaplan_meier(Outcomes(halves, ~o.event, entry))
    days = np.arange(5)
    np.testing.assert_allclose(reverse_kaplan_meier(o).at(days), moved.at(2 * days + 1), atol=1e-12)


@settings(deadline=None)
@given(tied_outcomes(min_size=1, weighted=False), st.data())
def test_weights_are_repetitions(o, data):
    weight = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(o), max_size=len(o))), np.int64
    )
    weight[0] = 1
    copies = o.take(np.repeat(np.arange(len(o)), weight))
    weighted = Outcomes(o.time, o.event, o.entry, weight)
    for curve in (kaplan_meier, reverse_kaplan_meier):
        assert curve(weighted).times.tolist() == curve(copies).times.tolist()
        np.testing.assert_allclose(curve(weighted).values, curve(copies).values, atol=1e-12)


def test_an_empty_risk_set_of_inexact_weights_is_zero():
    """Ten times .1 is not 1; the last stop must still bring the curve to 0."""
    o = Outcomes(np.arange(10), np.ones(10, bool), weight=np.full(10, 0.1))
    assert kaplan_meier(o).values[-1] == 0


def brute_incidence(o, cause, num_causes):
    """float[Q, days]: cumulative incidence by a loop over days."""
    alive = [1.0] + [float(s) for s in day_loop_survival(o, o.event)]
    entry = np.zeros(len(o)) if o.entry is None else o.entry
    total, curve = np.zeros(num_causes), []
    for day in range(int(o.time.max()) + 1):
        at_risk = ((entry <= day) & (o.time >= day)).sum()
        for q in range(num_causes):
            stops = ((o.time == day) & (cause == q + 1)).sum()
            total[q] += alive[day] * stops / at_risk if stops else 0
        curve.append(total.copy())
    return np.array(curve).T


@settings(deadline=None)
@given(tied_outcomes(min_size=1, weighted=False), st.data())
def test_aalen_johansen_equals_a_loop_over_days(o, data):
    drawn = data.draw(st.lists(st.integers(1, 3), min_size=len(o), max_size=len(o)))
    cause = np.where(o.event, drawn, 0)
    incidence = aalen_johansen(o, cause, 3)
    days = np.arange(o.time.max() + 1)
    np.testing.assert_allclose(incidence.at(days), brute_incidence(o, cause, 3), atol=1e-12)
    np.testing.assert_allclose(incidence.survival + incidence.cumulative.sum(axis=0), 1, atol=1e-12)


def test_aalen_johansen_weights_are_repetitions():
    rng = np.random.default_rng(0)
    o, cause = Outcomes(rng.integers(0, 6, 80), np.ones(80, bool)), rng.integers(1, 3, 80)
    weight = rng.integers(0, 3, 80)
    rows = np.repeat(np.arange(80), weight)
    weighted = aalen_johansen(Outcomes(o.time, o.event, weight=weight), cause, 2)
    copied = aalen_johansen(o.take(rows), cause[rows], 2)
    np.testing.assert_allclose(weighted.cumulative, copied.cumulative, atol=1e-12)


@pytest.mark.parametrize("cause", [[1, 1, 1, 0, 2], [1, 0, 0, 0, 2], [1, 3, 0, 0, 2]])
def test_causes_must_agree_with_events(cause):
    with pytest.raises(ValueError, match="cause must be 1 to 2"):
        aalen_johansen(FIVE, np.array(cause), 2)


def test_limit_before_the_curve_falls_too_low():
    curve = StepCurve(np.array([2.0, 5.0, 7.0]), np.array([0.5, 0.05, 0.01]), end=9.0)
    assert curve.last_above(0.05) == 7.0
    assert curve.last_above(0.001) == 9.0
    assert curve.inverse(np.array([1.0, 2.0, 9.0])) == pytest.approx([1, 2, 100])
