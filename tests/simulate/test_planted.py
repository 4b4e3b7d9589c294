"""The planted mathematics against closed forms."""

import math

import numpy as np
import pytest

from recsys_mtl.metrics.oracle import auc_regret, logloss_regret
from recsys_mtl.simulate.planted import (
    block_correlation,
    draw_labels,
    draw_missing,
    end_to_end,
    factor_table,
    hermite_coefficients,
    response,
    sigmoid,
    solve_biases,
    task_directions,
)

FUNNEL = {"like": "view", "buy": "like"}
RATES = {"view": 0.3, "like": 0.1, "buy": 0.02, "share": 0.05}
# Correlation of z + ... + z^i with z + ... + z^j for scores that correlate .4 and .8.
LABEL_CORRELATION = {
    (1, 1): (0.400, 0.800),
    (1, 2): (0.231, 0.462),
    (1, 3): (0.327, 0.653),
    (1, 4): (0.133, 0.267),
    (2, 2): (0.240, 0.693),
    (2, 3): (0.226, 0.528),
    (2, 4): (0.185, 0.585),
    (3, 3): (0.296, 0.715),
    (3, 4): (0.154, 0.422),
    (4, 4): (0.160, 0.614),
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def signals(num_rows: int, seed: int) -> dict[str, np.ndarray]:
    """Logits of four tasks of degrees 1, 2, 3, 2 over eight factors."""
    directions = task_directions(block_correlation(4, 1, 1.0, 0.4), 8, rng(1))
    z = rng(seed).normal(size=(num_rows, 8)) @ directions.T
    return {
        task: 1.5 * response(z[:, t], degree)
        for t, (task, degree) in enumerate(zip(RATES, (1, 2, 3, 2), strict=True))
    }


def truth(num_rows: int = 100_000) -> dict[str, np.ndarray]:
    """Step rates of the four tasks."""
    planted = signals(num_rows, 2)
    biases = solve_biases(planted, RATES, FUNNEL)
    return {task: sigmoid(biases[task] + signal) for task, signal in planted.items()}


@pytest.mark.parametrize(
    "correlation",
    [
        block_correlation(7, 1, 1.0, 0.4),
        block_correlation(7, 1, 1.0, -1 / 6),
        block_correlation(1, 5, 0.8, 0.0),
        block_correlation(2, 3, 0.6, -0.5),
        block_correlation(3, 2, 1.0, 0.2),
    ],
)
def test_cosines_of_the_directions_are_the_wanted_correlations(correlation):
    directions = task_directions(correlation, 9, rng())
    assert np.allclose(directions @ directions.T, correlation, atol=1e-7)


def test_blocks_hold_one_correlation_inside_and_one_across():
    expected = [[1, 0.6, -0.5, -0.5], [0.6, 1, -0.5, -0.5], [-0.5, -0.5, 1, 0.6]]
    assert block_correlation(2, 2, 0.6, -0.5)[:3].tolist() == expected


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((7, 1, 1.0, -0.2), "across is -0.2; .* between -0.1667 and 1"),
        ((2, 3, 0.6, -0.8), "across is -0.8; .* between -0.7333 and 0.7333"),
        ((3, 2, 0.0, 0.6), "across is 0.6; .* between -0.25 and 0.5"),
        ((1, 5, -0.3, 0.0), "inside is -0.3; .* between -0.25 and 1"),
        ((2, 2, 1.1, 0.0), "inside is 1.1; .* between -1 and 1"),
    ],
)
def test_an_infeasible_correlation_is_refused_with_its_bound(blocks, message):
    with pytest.raises(ValueError, match=message):
        block_correlation(*blocks)


def test_directions_refuse_an_indefinite_matrix_and_too_few_factors():
    indefinite = np.array([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]])
    with pytest.raises(ValueError, match="lowest eigenvalue is -0.27"):
        task_directions(indefinite, 3, rng())
    with pytest.raises(ValueError, match="3 directions need as many factors; there are 2"):
        task_directions(np.eye(3), 2, rng())


def test_hermite_coefficients_of_degree_three_by_hand():
    """Expand z + z^2 + z^3 = 1 + 4 He_1 + He_2 + He_3, with He_2 = z^2 - 1 and He_3 = z^3 - 3z."""
    assert hermite_coefficients(3).tolist() == [1, 4, 1, 1]


@pytest.mark.parametrize(
    ("degree", "mean", "variance"), [(1, 0, 1), (2, 1, 3), (3, 1, 24), (4, 4, 144), (5, 4, 1329)]
)
def test_mean_and_variance_by_degree(degree, mean, variance):
    c = hermite_coefficients(degree)
    assert c[0] == mean
    assert covariance(degree, degree, 1.0) == variance


def covariance(i: int, j: int, rho: float) -> float:
    c_i, c_j = hermite_coefficients(i), hermite_coefficients(j)
    return sum(math.factorial(m) * c_i[m] * c_j[m] * rho**m for m in range(1, min(i, j) + 1))


@pytest.mark.parametrize("pair", LABEL_CORRELATION)
def test_closed_form_of_the_correlation_by_degrees(pair):
    scale = math.sqrt(covariance(pair[0], pair[0], 1) * covariance(pair[1], pair[1], 1))
    closed = tuple(round(covariance(*pair, rho) / scale, 3) for rho in (0.4, 0.8))
    assert closed == pytest.approx(LABEL_CORRELATION[pair], abs=1.01e-3)


def test_simulated_moments_lie_within_4_standard_errors_of_the_closed_forms():
    directions = task_directions(block_correlation(4, 1, 1.0, 0.4), 8, rng(3))
    z = rng(4).normal(size=(50, 8_000, 8)) @ directions.T
    total = [sum(z[:, :, i] ** k for k in range(1, i + 2)) for i in range(4)]
    for i, j in LABEL_CORRELATION:
        c_i, c_j = hermite_coefficients(i)[0], hermite_coefficients(j)[0]
        within_4_se((total[i - 1] - c_i).mean(1), 0.0)
        product = (total[i - 1] - c_i) * (total[j - 1] - c_j)
        within_4_se(product.mean(1), covariance(i, j, 1.0 if i == j else 0.4))


def within_4_se(parts: np.ndarray, expected: float) -> None:
    assert abs(parts.mean() - expected) < 4 * parts.std(ddof=1) / math.sqrt(len(parts))


def test_response_by_hand_with_its_clip():
    z = np.array([0.0, 1.0, 3.0, -3.0])
    raw = np.array([-1, 1, 11, 5]) / math.sqrt(3)
    assert response(z, 2) == pytest.approx(raw)
    assert response(np.array([-9.0, 9.0, 2.0]), 1).tolist() == [-4, 8, 2]
    assert response(np.array([-9.0, 9.0, 1.0]), 3) == pytest.approx([-4, 8, 2 / math.sqrt(24)])


def test_factor_tables_are_centred_and_white():
    table = factor_table(30, 6, rng())
    assert np.allclose(table.mean(0), 0)
    assert np.allclose(table.T @ table / 30, np.eye(6))


def test_biases_give_the_base_rates_on_their_rows_and_within_2_percent_on_others():
    biases = solve_biases(signals(300_000, 2), RATES, FUNNEL)
    for seed, tolerance in ((2, 1e-9), (3, 0.02)):
        rates = {t: sigmoid(biases[t] + s) for t, s in signals(300_000, seed).items()}
        for task, p in end_to_end(rates, FUNNEL).items():
            assert p.mean() == pytest.approx(RATES[task], rel=tolerance)


def test_a_base_rate_above_the_parents_is_refused():
    with pytest.raises(ValueError, match=r"'like' is 0.4; it must lie between 0 and 0.3"):
        solve_biases(signals(1_000, 2), RATES | {"like": 0.4}, FUNNEL)


def test_labels_follow_their_rates_and_keep_the_funnel():
    rates = truth()
    p, labels = end_to_end(rates, FUNNEL), draw_labels(rates, FUNNEL, rng(5))
    for task, label in labels.items():
        error = label.mean() - p[task].mean()
        assert abs(error) < 4 * math.sqrt((p[task] * (1 - p[task])).mean() / len(label))
    for child, parent in FUNNEL.items():
        assert (labels[child] <= labels[parent]).all()
        assert (p[child] <= p[parent]).all()


def test_end_to_end_rates_are_products_along_the_parents():
    rates = {task: np.array([x]) for task, x in zip(RATES, (0.5, 0.4, 0.3, 0.2), strict=True)}
    p = end_to_end(rates, FUNNEL)
    assert {task: x.item() for task, x in p.items()} == pytest.approx(
        {"view": 0.5, "like": 0.2, "buy": 0.06, "share": 0.2}
    )


def test_missing_labels_come_at_their_rate():
    missing = draw_missing({"view": 0.0, "like": 0.3}, 40_000, rng())
    assert not missing["view"].any()
    assert abs(missing["like"].mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 40_000)


def test_a_model_that_returns_the_truth_has_no_regret():
    for p in end_to_end(truth(20_000), FUNNEL).values():
        assert auc_regret(p, p) == 0
        assert logloss_regret(p, p) == pytest.approx(0, abs=1e-12)
        assert auc_regret(np.log(p / (1 - p)) * 0.2 - 3, p) == pytest.approx(0, abs=1e-12)
        assert auc_regret(-p, p) > 0.1
