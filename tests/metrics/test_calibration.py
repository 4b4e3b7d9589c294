import numpy as np
import pytest

from recsys_mtl.metrics.calibration import calibration_ratio, reliability
from recsys_mtl.metrics.clusters import Clusters


def test_ratio_by_hand():
    """Predictions sum to 1.5, labels to 1; psi = (p - 1.5 y) / .25."""
    probs, labels = np.array([0.5, 0.5, 0.25, 0.25]), np.array([1, 0, 0, 0])
    estimate = calibration_ratio(probs, labels)
    assert estimate.value == 1.5
    assert estimate.psi == pytest.approx([-4.0, 2.0, 1.0, 1.0])
    assert estimate.se == pytest.approx(np.sqrt(4 / 3 * 22) / 4)


def test_ratio_without_positive_is_undefined():
    assert calibration_ratio(np.array([0.1, 0.2]), np.array([0, 0])).reason == "no positive row"


def test_bins_by_hand():
    """Six rows in three bins of two, by rising prediction."""
    probs = np.array([0.6, 0.1, 0.2, 0.5, 0.9, 0.8])
    labels = np.array([1, 0, 0, 0, 1, 1])
    bins = reliability(probs, labels, num_bins=3)
    assert [(b.n, b.n_pos, b.rate) for b in bins] == [(2, 0, 0.0), (2, 1, 0.5), (2, 2, 1.0)]
    assert [b.mean_prob for b in bins] == pytest.approx([0.15, 0.55, 0.85])


def test_wilson_interval_of_independent_rows():
    """40 of 200 at z = 1.96; the clusters' G/(G-1) is a design effect of 200/199."""
    labels = np.arange(200) % 5 == 0
    (only,) = reliability(np.full(200, 0.2), labels, num_bins=1)
    z, n, p = 1.959964, 200, 0.2
    middle = (p + z * z / 2 / n) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    assert (only.low, only.high) == pytest.approx((middle - reach, middle + reach), abs=2e-4)


def test_clustered_rows_widen_the_interval():
    labels = np.repeat([0, 1, 0, 0], 50)
    probs = np.full(200, 0.25)
    (wide,) = reliability(probs, labels, Clusters.of(np.repeat(np.arange(40), 5)), num_bins=1)
    (narrow,) = reliability(probs, labels, num_bins=1)
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)


def test_bin_without_positive_has_an_interval_above_zero():
    (only,) = reliability(np.full(100, 0.01), np.zeros(100), num_bins=1)
    assert only.low == 0 and 0.02 < only.high < 0.06


def test_ties_share_a_bin_and_row_order_changes_nothing():
    rng = np.random.default_rng(0)
    probs = rng.choice([0.1, 0.2, 0.7], 1000, p=[0.8, 0.1, 0.1])
    labels = rng.random(1000) < probs
    users = Clusters.of(rng.integers(0, 100, 1000))
    shuffle = rng.permutation(1000)
    bins = reliability(probs, labels, users)
    assert [b.mean_prob for b in bins] == pytest.approx([0.1, 0.2, 0.7])
    assert sum(b.n for b in bins) == 1000
    shuffled = reliability(probs[shuffle], labels[shuffle], users.take(shuffle))
    for a, b in zip(bins, shuffled, strict=True):
        assert (a.n, a.n_pos, a.rate) == (b.n, b.n_pos, b.rate)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-12)


def test_equal_mass_bins_without_ties():
    rng = np.random.default_rng(1)
    bins = reliability(rng.random(3000), rng.random(3000) < 0.5)
    assert [b.n for b in bins] == [200] * 15


def test_no_bins_for_nothing_or_nan():
    assert reliability(np.array([]), np.array([])) == []
    assert reliability(np.array([np.nan]), np.array([1])) == []
