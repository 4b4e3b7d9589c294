import json

import numpy as np
import pytest

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, difference
from recsys_mtl.metrics.gauc import gauc
from recsys_mtl.metrics.logloss import logloss, normalized_entropy

RNG = np.random.default_rng(0)
LABELS = RNG.random(400) < 0.3
A, B = RNG.uniform(0.01, 0.99, (2, 400))
USERS = Clusters.of(RNG.integers(0, 80, 400))


def test_difference_of_logloss_is_the_mean_row_difference():
    paired = difference(logloss(B, LABELS, USERS), logloss(A, LABELS, USERS))
    row = np.where(LABELS, -np.log(B / A), -np.log((1 - B) / (1 - A)))
    sums = np.bincount(USERS.codes, row - row.mean())
    assert paired.value == pytest.approx(row.mean())
    assert paired.se == pytest.approx(np.sqrt(80 / 79 * (sums**2).sum()) / 400)


@pytest.mark.parametrize("metric", [auc, gauc, logloss, normalized_entropy])
def test_a_model_differs_from_itself_by_exactly_nothing(metric):
    paired = difference(metric(A, LABELS, USERS), metric(A, LABELS, USERS))
    assert (paired.value, paired.se) == (0.0, 0.0)


def test_paired_error_is_far_below_the_unpaired_one():
    near = np.clip(A + 0.001 * RNG.normal(size=400), 0, 1)
    paired = difference(auc(near, LABELS, USERS), auc(A, LABELS, USERS))
    assert paired.se < 0.1 * auc(A, LABELS, USERS).se


def test_difference_of_an_undefined_metric_says_whose():
    nothing = np.zeros(400, bool)
    paired = difference(auc(B, LABELS, USERS), auc(A, nothing, USERS))
    assert (paired.value, paired.reason) == (None, "champion: no positive row")


def test_difference_on_other_rows_raises():
    with pytest.raises(ValueError, match="challenger rests on 400 rows, champion on 399"):
        difference(auc(B, LABELS), auc(A[1:], LABELS[1:]))


def test_bounds_and_interval():
    estimate = Estimate(0.7, 0.1, 100, 50, 60)
    assert estimate.bounds(0.05) == pytest.approx((0.7 - 0.16448536, 0.7 + 0.16448536))
    assert estimate.interval() == pytest.approx((0.7 - 0.19599640, 0.7 + 0.19599640))
    assert Estimate(0.7, None, 1, 1, 1).interval() is None


def test_json_keeps_every_digit_and_has_no_nan():
    estimate = auc(A, LABELS, USERS)
    back = json.loads(json.dumps(estimate.as_json(), allow_nan=False))
    assert back["value"] == estimate.value and back["se"] == estimate.se
    empty = auc(A[:0], LABELS[:0]).as_json()
    assert json.dumps(empty, allow_nan=False).count("null") == 2
