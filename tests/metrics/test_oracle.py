import numpy as np
import pytest

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.oracle import auc_regret, expected_auc, logloss_regret, oracle_logloss


def all_pairs(scores, pos, neg):
    wins = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = np.outer(pos, neg)
    np.fill_diagonal(pairs, 0)
    return (wins * pairs).sum() / pairs.sum()


def test_two_rows_by_hand():
    """p = .8, .5: pairs .8 x .5 (won) and .5 x .2 (lost)."""
    assert expected_auc(np.array([2.0, 1.0]), np.array([0.8, 0.5])) == pytest.approx(0.8)


@pytest.mark.parametrize("exposed", [False, True])
def test_equals_all_pairs_with_ties(exposed):
    rng = np.random.default_rng(0)
    p, scores = rng.beta(1, 5, 800), np.round(rng.random(800), 2)
    exposure = rng.random(800) if exposed else None
    weight = exposure if exposed else np.ones(800)
    expected = all_pairs(scores, weight * p, weight * (1 - p))
    assert expected_auc(scores, p, exposure) == pytest.approx(expected, abs=1e-12)


def test_certain_labels_give_the_ordinary_auc():
    rng = np.random.default_rng(1)
    labels = (rng.random(300) < 0.3).astype(float)
    scores = np.round(rng.random(300), 1)
    assert expected_auc(scores, labels) == pytest.approx(auc(scores, labels).value, abs=1e-12)


def test_mean_over_drawn_labels_approaches_it():
    rng = np.random.default_rng(2)
    p, scores = rng.beta(2, 6, 400), rng.random(400)
    scores = scores + p
    drawn = [auc(scores, rng.random(400) < p).value for _ in range(400)]
    error = np.std(drawn) / 20
    assert expected_auc(scores, p) == pytest.approx(np.mean(drawn), abs=4 * error)


def test_regret_of_the_truth_and_its_monotone_transforms_is_zero():
    p = np.random.default_rng(3).random(500)
    assert auc_regret(p, p) == 0
    assert auc_regret(np.log(p / (1 - p)), p) == 0
    assert auc_regret(-p, p) > 0.1


def test_logloss_regret_by_hand():
    """KL of (.5, .5) from (.25, .75); the entropy of a fair coin is ln 2."""
    p, q = np.array([0.5]), np.array([0.25])
    assert oracle_logloss(p) == pytest.approx(np.log(2))
    assert logloss_regret(q, p) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert logloss_regret(p, p) == pytest.approx(0, abs=1e-15)
    assert oracle_logloss(np.array([0.0, 1.0])) == 0


def test_nan_where_no_pair_exists():
    assert np.isnan(expected_auc(np.array([1.0]), np.array([0.5])))
    assert np.isnan(expected_auc(np.array([1.0, 2.0]), np.zeros(2)))
