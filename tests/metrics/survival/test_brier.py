import numpy as np
import pytest

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.bootstrap import cluster_bootstrap
from recsys_mtl.metrics.survival.brier import administrative_brier, administrative_ibs, ipcw_brier
from recsys_mtl.metrics.survival.curves import reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes

SIX = Outcomes(np.array([2, 3, 5, 6, 8, 9]), np.array([1, 0, 1, 1, 0, 1], dtype=bool))
TIMES = np.array([3, 5, 7])
SURVIVAL = np.array(
    [
        [0.7, 0.5, 0.2],
        [0.9, 0.8, 0.6],
        [0.8, 0.6, 0.3],
        [0.9, 0.7, 0.4],
        [0.95, 0.9, 0.7],
        [0.9, 0.85, 0.6],
    ]
)
PLANNED = np.array([4, 3, 7, 9, 8, 10])


def world(rows=2000, seed=0):
    """Constant hazards, planned ends known for all; curves of the true model."""
    rng = np.random.default_rng(seed)
    hazard = 1 / (1 + np.exp(2 - rng.normal(size=rows)))
    stop, planned = rng.geometric(hazard), rng.integers(3, 12, rows)
    times = np.arange(1, 9)
    outcomes = Outcomes(np.minimum(stop, planned), stop <= planned)
    return (1 - hazard[:, None]) ** times, outcomes, times, planned


def test_ipcw_vector_of_the_reference():
    """Equal to scikit-survival; G is 1, 4/5, 4/5, 4/5, 2/5 after the exits at 3 and 8."""
    scores = ipcw_brier(SURVIVAL, SIX, TIMES, reverse_kaplan_meier(SIX))
    assert scores.values == pytest.approx([0.0946875, 0.1421875, 0.1108333], abs=1e-7)
    assert scores.integrated == pytest.approx(0.1224740, abs=1e-7)
    assert scores.rows.tolist() == [5, 5, 5]


def test_administrative_vector_of_the_reference():
    scores = administrative_brier(SURVIVAL, SIX, TIMES, PLANNED)
    assert scores.values == pytest.approx([0.09375, 0.120625, 0.125], abs=1e-12)
    assert scores.rows.tolist() == [6, 4, 4]
    ibs = administrative_ibs(SURVIVAL, SIX, TIMES, PLANNED)
    assert ibs.value == pytest.approx((0.09375 + 2 * 0.120625 + 0.125) / 4, abs=1e-12)
    assert scores.integrated == pytest.approx(ibs.value, abs=1e-15)


def test_without_censoring_all_forms_are_the_mean_squared_error():
    survival, outcomes, times, _ = world()
    full = Outcomes(outcomes.time, np.ones(len(outcomes), bool))
    plain = ((full.time[:, None] > times) - survival) ** 2
    ipcw = ipcw_brier(survival, full, times, reverse_kaplan_meier(full))
    known = administrative_brier(survival, full, times, np.full(len(full), 99))
    np.testing.assert_allclose(ipcw.values, plain.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(known.values, plain.mean(axis=0), atol=1e-12)
    assert known.integrated == pytest.approx(np.trapezoid(plain.mean(axis=0), times) / 7)


def test_both_forms_estimate_the_uncensored_score():
    """Within 4 standard errors of the expectation mean S (1 - S), 20,000 rows."""
    survival, outcomes, times, planned = world(20_000)
    times, survival = times[:3], survival[:, :3]
    expected = (survival * (1 - survival)).mean(axis=0)
    ipcw = ipcw_brier(survival, outcomes, times, reverse_kaplan_meier(outcomes)).values
    known = administrative_brier(survival, outcomes, times, planned).values
    np.testing.assert_allclose(ipcw, expected, atol=0.006)
    np.testing.assert_allclose(known, expected, atol=0.006)


def test_late_entrants_count_from_their_entry_on():
    late = Outcomes(SIX.time, SIX.event, np.array([0, 0, 0, 6, 0, 6]))
    scores = administrative_brier(SURVIVAL, late, TIMES, PLANNED)
    assert scores.rows.tolist() == [4, 2, 4]
    assert scores.values[1] == pytest.approx((0.36 + 0.01) / 2)
    with pytest.raises(ValueError, match="no late entry; use administrative_brier"):
        ipcw_brier(SURVIVAL, late, TIMES, reverse_kaplan_meier(SIX))


def test_rows_lost_before_their_planned_end_count_while_seen():
    """Row 4 left at 8 with a plan to 20: known at 7 and 8, unknown at 9."""
    planned = np.array([4, 3, 7, 9, 20, 10])
    scores = administrative_brier(SURVIVAL, SIX, np.array([7, 8, 9]), planned)
    assert scores.rows.tolist() == [4, 3, 2]


def test_weights_are_repetitions():
    survival, outcomes, times, planned = world(300)
    weight = np.random.default_rng(1).integers(0, 3, 300)
    rows = np.repeat(np.arange(300), weight)
    weighted = Outcomes(outcomes.time, outcomes.event, weight=weight)
    copies = outcomes.take(rows)
    one = ipcw_brier(survival, weighted, times, reverse_kaplan_meier(weighted))
    two = ipcw_brier(survival[rows], copies, times, reverse_kaplan_meier(copies))
    np.testing.assert_allclose(one.values, two.values, atol=1e-12)
    one = administrative_brier(survival, weighted, times, planned)
    two = administrative_brier(survival[rows], copies, times, planned[rows])
    np.testing.assert_allclose(one.values, two.values, atol=1e-12)


def test_influence_value_is_the_effect_of_a_little_more_weight():
    survival, outcomes, times, planned = world(60)
    ibs = administrative_ibs(survival, outcomes, times, planned)
    assert ibs.psi.sum() == pytest.approx(0, abs=1e-9)
    for row in range(60):
        sides = []
        for step in (1e-6, -1e-6):
            weight = np.ones(60)
            weight[row] += step
            moved = Outcomes(outcomes.time, outcomes.event, weight=weight)
            sides.append(administrative_brier(survival, moved, times, planned).integrated)
        assert ibs.psi[row] / 60 == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-9)


def test_error_of_the_ibs_is_that_of_the_bootstrap():
    survival, outcomes, times, planned = world(800)
    clusters = Clusters.of(np.arange(800) // 4)

    def integrated(weight):
        weighted = Outcomes(outcomes.time, outcomes.event, weight=weight)
        return administrative_brier(survival, weighted, times, planned).integrated

    draws = cluster_bootstrap(integrated, clusters, num_replicates=400)
    ibs = administrative_ibs(survival, outcomes, times, planned, clusters)
    assert draws.std(ddof=1) == pytest.approx(ibs.se, rel=0.13)


def test_censoring_curve_of_each_replicate_is_estimated_anew():
    survival, outcomes, times, _ = world(300)
    survival, times = survival[:, :2], times[:2]

    def brier(weight):
        weighted = Outcomes(outcomes.time, outcomes.event, weight=weight)
        return ipcw_brier(survival, weighted, times, reverse_kaplan_meier(weighted)).values

    draws = cluster_bootstrap(brier, Clusters.singletons(300), num_replicates=200)
    assert draws.shape == (200, 2) and np.isfinite(draws).all()
    np.testing.assert_allclose(draws.mean(axis=0), brier(np.ones(300)), atol=0.005)


@pytest.mark.parametrize(("end", "message"), [(8, "G is 0 at time 8"), (7, "beyond 7")])
def test_ipcw_refuses_times_without_uncensored_training_rows(end, message):
    train = Outcomes(np.array([1, end]), np.array([True, False]))
    with pytest.raises(ValueError, match=message):
        ipcw_brier(SURVIVAL, SIX, np.array([3, 5, 8]), reverse_kaplan_meier(train))


def test_unusable_input():
    with pytest.raises(ValueError, match=r"survival has shape \(6, 3\); expected .* \(6, 2\)"):
        administrative_brier(SURVIVAL, SIX, np.array([3, 5]), PLANNED)
    with pytest.raises(ValueError, match="times must rise"):
        administrative_brier(SURVIVAL, SIX, np.array([3, 5, 5]), PLANNED)
    with pytest.raises(ValueError, match="1 rows exit after their censoring time"):
        administrative_brier(SURVIVAL, SIX, TIMES, PLANNED - np.array([0, 1, 0, 0, 0, 0]))
    never = administrative_ibs(SURVIVAL, SIX, np.array([3, 5, 11]), PLANNED)
    assert never.reason == "no row is known at time 11"
    assert np.isnan(administrative_brier(SURVIVAL, SIX, np.array([3, 5, 11]), PLANNED).values[2])


def test_one_time_is_its_own_mean():
    ibs = administrative_ibs(SURVIVAL[:, :1], SIX, TIMES[:1], PLANNED)
    assert ibs.value == pytest.approx(0.09375)
