import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters


def test_auc_counts_pairs_with_ties_one_half():
    """Positives .9 and .4 against .4, .1, .5: 3 + (.5 + 1 + 0) of 6 pairs."""
    scores = np.array([0.9, 0.4, 0.4, 0.1, 0.5])
    labels = np.array([1, 1, 0, 0, 0])
    estimate = auc(scores, labels)
    assert estimate.value == pytest.approx(4.5 / 6, abs=1e-15)
    assert (estimate.n, estimate.n_pos, estimate.n_clusters) == (5, 2, 5)


def test_influence_values_by_hand():
    """One positive at .5 among negatives .2, .5: A = .75, F0(.5) = .75, F1 = .5 and 0."""
    estimate = auc(np.array([0.5, 0.2, 0.5]), np.array([1, 0, 0]))
    assert estimate.psi == pytest.approx([0.0, 1.5 * 0.25, -1.5 * 0.25])


@pytest.mark.parametrize("levels", [3, 20, 10**9])
@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_auc_equals_scikit_learn_on_tied_scores(levels, rate):
    rng = np.random.default_rng(levels)
    labels = rng.random(2000) < rate
    scores = np.floor((rng.normal(size=2000) + labels) * levels) / levels
    assert auc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_constant_scores_are_half():
    assert auc(np.full(10, 0.3), np.arange(10) % 2).value == 0.5


def test_influence_values_sum_to_zero_and_follow_their_rows():
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.3
    scores = np.round(rng.random(500), 2)
    users = Clusters.of(rng.integers(0, 40, 500))
    shuffle = rng.permutation(500)
    straight = auc(scores, labels, users)
    shuffled = auc(scores[shuffle], labels[shuffle], users.take(shuffle))
    assert straight.psi.sum() == pytest.approx(0, abs=1e-9)
    assert shuffled.value == straight.value
    assert shuffled.se == pytest.approx(straight.se, rel=1e-12)
    np.testing.assert_allclose(shuffled.psi, straight.psi[shuffle], atol=1e-12)


def test_influence_value_is_the_effect_of_a_little_more_weight():
    """The derivative of the weighted AUC in one row's weight is psi / n."""
    rng = np.random.default_rng(1)
    labels = rng.random(60) < 0.4
    scores = np.round(rng.random(60), 1)
    psi = auc(scores, labels).psi
    eps = 1e-6
    for row in (0, 17, 59):
        up, down = np.ones(60), np.ones(60)
        up[row] += eps
        down[row] -= eps
        slope = (
            roc_auc_score(labels, scores, sample_weight=up)
            - roc_auc_score(labels, scores, sample_weight=down)
        ) / (2 * eps)
        assert psi[row] / 60 == pytest.approx(slope, abs=1e-7)


def test_monotone_transform_changes_nothing():
    rng = np.random.default_rng(2)
    labels, scores = rng.random(300) < 0.5, rng.normal(size=300)
    assert auc(1 / (1 + np.exp(-scores)), labels).value == auc(scores, labels).value


@pytest.mark.parametrize(
    ("scores", "labels", "reason"),
    [
        ([], [], "no observed row"),
        ([0.1, 0.2], [0, 0], "no positive row"),
        ([0.1, 0.2], [1, 1], "no negative row"),
        ([0.1, np.nan], [0, 1], "1 predictions are not finite"),
        ([np.inf, -np.inf], [0, 1], "2 predictions are not finite"),
    ],
)
def test_no_value_but_a_reason(scores, labels, reason):
    estimate = auc(np.array(scores), np.array(labels))
    assert (estimate.value, estimate.se, estimate.reason) == (None, None, reason)
    assert estimate.as_json()["reason"] == reason
