import numpy as np
import pytest
import torch

from recsys_mtl.evaluation.survival_rows import Curves, Lives
from recsys_mtl.metrics.survival.curves import StepCurve
from recsys_mtl.models.heads.hazard import restricted_mean, stop_probability, window_days

from .survival_world import EDGES, hazards


def test_survival_is_the_product_of_the_days():
    curves = Curves.of(np.log([[0.9, 0.5]]), np.array([1, 3, 5]))
    since = np.array([0])
    days = np.array([[0, 1, 2, 3, 4, 9]])
    np.testing.assert_allclose(curves.alive(since, days)[0], [1, 0.9, 0.81, 0.405, 0.2025, 0.2025])
    # Given that day 2 was lived through, only days 3 and 4 count.
    np.testing.assert_allclose(curves.alive(np.array([2]), days)[0], [1, 1, 1, 0.5, 0.25, 0.25])
    # Days 1 to 4: all live the first, .9 the second, .81 the third, .405 the fourth.
    assert curves.days_alive(since, 5)[0] == pytest.approx(1 + 0.9 + 0.81 + 0.405)
    assert curves.days_alive(np.array([2]), 5)[0] == pytest.approx(1 + 0.5)


def test_curves_agree_with_the_models_read_outs():
    rng = np.random.default_rng(0)
    hazard = hazards(rng.normal(size=50))
    since = rng.integers(0, EDGES[-1], 50)
    curves, edges = Curves.of(np.log1p(-hazard), EDGES), torch.from_numpy(EDGES)
    daily, age = torch.from_numpy(np.log1p(-hazard)), torch.from_numpy(since)
    for horizon in (1, 7, 40):
        alive = curves.alive(since, since[:, None] + horizon)[:, 0]
        expected = 1 - stop_probability(daily, age, horizon, edges).numpy()
        np.testing.assert_allclose(alive, expected, atol=1e-14)
    rest = restricted_mean(daily, window_days(age, float(EDGES[-1]), edges)).numpy()
    np.testing.assert_allclose(curves.days_alive(since, EDGES[-1]), rest, rtol=1e-12)


def test_one_curve_for_all_is_conditional_on_the_day_and_stays_defined_at_zero():
    curve = StepCurve(np.array([2, 4]), np.array([0.5, 0.0]), 4.0)
    curves = Curves.marginal(curve, 2, 7)
    alive = curves.alive(np.array([0, 2]), np.array([[1, 2, 3]] * 2))
    np.testing.assert_allclose(alive, [[1, 0.5, 0.5], [1, 1, 1]])
    assert curves.alive(np.array([5]), np.array([[6]]))[0, 0] == 1
    assert curves.alive(np.array([0, 0]), np.array([[4], [6]])).max() < 1e-200


def test_time_is_cut_before_the_end():
    lives = Lives(*(np.array(v) for v in ([1, 1, 1], [1, 2, 1], [9, 10, 30], [1, 2, 0])))
    cut = lives.until(10)
    assert cut.time.tolist() == [9, 9, 9]
    assert cut.event.tolist() == [True, False, False]
    assert cut.entry.tolist() == [1, 2, 1]
