import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.gauc import gauc


def test_gauc_weighs_users_with_both_classes_by_rows():
    """User 7 has AUC 1/2 on 3 rows, user 1 AUC 1 on 2 rows; user 4 has no positive."""
    users = np.array([7, 7, 7, 1, 1, 4])
    scores = np.array([0.5, 0.9, 0.1, 0.8, 0.2, 0.99])
    labels = np.array([1, 0, 0, 1, 0, 0])
    estimate = gauc(scores, labels, Clusters.of(users))
    assert estimate.value == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)
    assert (estimate.n, estimate.n_pos, estimate.n_clusters) == (5, 2, 2)
    assert estimate.extra["skipped_users_share"] == pytest.approx(1 / 3)
    assert estimate.extra["skipped_rows_share"] == pytest.approx(1 / 6)
    # psi: 3 (.5 - .7) / 2.5 and 2 (1 - .7) / 2.5, users by key
    assert estimate.psi == pytest.approx([0.24, -0.24])
    assert estimate.se == pytest.approx(np.sqrt(2 * 2 * 0.24**2) / 2)


def test_gauc_equals_a_loop_over_users():
    rng = np.random.default_rng(0)
    users = rng.geometric(0.02, 3000)
    labels = rng.random(3000) < 0.3
    scores = np.round(rng.random(3000), 1)
    total = weight = 0.0
    for user in np.unique(users):
        rows = users == user
        if labels[rows].any() and not labels[rows].all():
            total += rows.sum() * roc_auc_score(labels[rows], scores[rows])
            weight += rows.sum()
    estimate = gauc(scores, labels, Clusters.of(users))
    assert estimate.value == pytest.approx(total / weight, abs=1e-12)
    assert estimate.psi.sum() == pytest.approx(0, abs=1e-9)
    assert estimate.n == weight


def test_row_order_and_a_shift_per_user_change_nothing():
    rng = np.random.default_rng(1)
    users = rng.integers(0, 50, 1000)
    labels, scores = rng.random(1000) < 0.4, rng.integers(0, 9, 1000).astype(float)
    shift = rng.integers(-5, 5, 50)
    shuffle = rng.permutation(1000)
    straight = gauc(scores, labels, Clusters.of(users))
    moved = gauc((scores + shift[users])[shuffle], labels[shuffle], Clusters.of(users[shuffle]))
    assert (moved.value, moved.se) == (straight.value, straight.se)


@pytest.mark.parametrize(
    ("users", "labels", "reason"),
    [
        ([1, 2], [1, 0], "no user has both classes"),
        ([1, 1], [0, 0], "no user has both classes"),
        ([], [], "no observed row"),
    ],
)
def test_no_value_but_a_reason(users, labels, reason):
    users = Clusters.of(np.array(users, np.int64))
    estimate = gauc(np.linspace(0, 1, len(labels)), np.array(labels), users)
    assert (estimate.value, estimate.reason) == (None, reason)


def test_one_user_has_a_value_without_error():
    estimate = gauc(np.array([0.1, 0.9]), np.array([0, 1]), Clusters.of(np.array([3, 3])))
    assert (estimate.value, estimate.se) == (1.0, None)
    assert "one user" in estimate.reason
