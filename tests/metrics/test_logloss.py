import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from recsys_mtl.metrics.logloss import CLIP, logloss, normalized_entropy


def test_logloss_by_hand():
    estimate = logloss(np.array([0.5, 0.25]), np.array([1, 0]))
    assert estimate.value == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    half = (math.log(2) - math.log(4 / 3)) / 2
    assert estimate.psi == pytest.approx([half, -half])


def test_logloss_equals_scikit_learn():
    rng = np.random.default_rng(0)
    probs, labels = rng.random(1000), rng.random(1000) < 0.2
    assert logloss(probs, labels).value == pytest.approx(log_loss(labels, probs), abs=1e-12)


def test_saturated_rows_are_clipped_and_counted():
    estimate = logloss(np.array([0.0, 1.0, 0.5, 0.5]), np.array([1, 1, 0, 1]))
    expected = (-math.log(CLIP) - math.log1p(-CLIP) + 2 * math.log(2)) / 4
    assert estimate.value == pytest.approx(expected)
    assert estimate.extra["clipped_share"] == 0.5


def test_constant_predictor_has_normalized_entropy_one():
    labels = np.array([1, 0, 0, 0])
    estimate = normalized_entropy(np.full(4, 0.25), labels)
    assert estimate.value == pytest.approx(1, abs=1e-12)


def test_normalized_entropy_is_logloss_over_entropy():
    labels = np.array([1, 0])
    estimate = normalized_entropy(np.array([0.8, 0.4]), labels)
    mean_loss = -(math.log(0.8) + math.log(0.6)) / 2
    assert estimate.value == pytest.approx(mean_loss / math.log(2))


@pytest.mark.parametrize("metric", [logloss, normalized_entropy])
def test_influence_value_is_the_effect_of_a_little_more_weight(metric):
    """Duplicating the sample k times and one row once more approximates its derivative."""
    rng = np.random.default_rng(3)
    probs, labels = rng.uniform(0.05, 0.95, 40), rng.random(40) < 0.3
    psi = metric(probs, labels).psi
    assert psi.sum() == pytest.approx(0, abs=1e-10)
    k = 4000
    many_probs, many_labels = np.tile(probs, k), np.tile(labels, k)
    for row in (0, 21):
        more = metric(np.append(many_probs, probs[row]), np.append(many_labels, labels[row]))
        slope = (more.value - metric(probs, labels).value) * (40 * k + 1)
        assert slope == pytest.approx(psi[row], abs=2e-4)


def test_row_order_changes_nothing():
    rng = np.random.default_rng(4)
    probs, labels = rng.random(200), rng.random(200) < 0.3
    shuffle = rng.permutation(200)
    for metric in (logloss, normalized_entropy):
        straight, shuffled = metric(probs, labels), metric(probs[shuffle], labels[shuffle])
        assert shuffled.value == pytest.approx(straight.value, abs=1e-14)
        assert shuffled.se == pytest.approx(straight.se, rel=1e-12)


def test_one_class_has_logloss_but_no_normalized_entropy():
    probs, labels = np.array([0.2, 0.3]), np.array([0, 0])
    assert logloss(probs, labels).value is not None
    assert normalized_entropy(probs, labels).reason == "no positive row"
    assert logloss(np.array([]), np.array([])).reason == "no observed row"
    assert "not finite" in logloss(np.array([0.2, np.nan]), labels).reason
