"""Intervals cover the truth, and closed-form errors agree with a bootstrap over users."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.calibration import calibration_ratio
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import difference
from recsys_mtl.metrics.gauc import gauc
from recsys_mtl.metrics.logloss import logloss, normalized_entropy

METRICS = {
    "auc": auc,
    "gauc": gauc,
    "logloss": logloss,
    "ne": normalized_entropy,
    "calibration": calibration_ratio,
}


def draw(rng, num_users, mean_rows):
    """Two equally good models of a feed whose users differ: (a, b, labels, user)."""
    user = np.repeat(np.arange(num_users), rng.geometric(1 / mean_rows, num_users))
    n = len(user)
    signal = rng.normal(0, 0.8, n)
    labels = rng.random(n) < 1 / (1 + np.exp(1.5 - signal - rng.normal(0, 1, num_users)[user]))

    def model():
        noise = rng.normal(0, 0.5, num_users)[user] + rng.normal(0, 0.5, n)
        return 1 / (1 + np.exp(1.2 - signal - noise))

    return model(), model(), labels, user


def estimates(sample):
    a, b, labels, user = sample
    users = Clusters.of(user)
    found = {}
    for name, metric in METRICS.items():
        single = metric(a, labels, users)
        found[name] = single
        found[f"{name} difference"] = difference(metric(b, labels, users), single)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mean_rows", [10, 60])
def test_intervals_cover_at_their_level(mean_rows):
    """400 draws; 95 % intervals within the two-sided 0.2 % binomial band of 95 %.

    The truth of a difference is 0 by symmetry, that of one model the mean over draws.
    """
    rng = np.random.default_rng(20 + mean_rows)
    draws = [estimates(draw(rng, 400, mean_rows)) for _ in range(400)]
    low, high = binom.ppf([0.001, 0.999], 400, 0.95)
    for name in draws[0]:
        values = np.array([d[name].value for d in draws])
        truth = 0.0 if "difference" in name else values.mean()
        covered = sum(abs(d[name].value - truth) < 1.959964 * d[name].se for d in draws)
        assert low <= covered <= high, f"{name}: {covered} of 400"


def test_independent_rows_would_be_too_narrow():
    a, b, labels, user = draw(np.random.default_rng(5), 300, 60)
    paired = difference(auc(b, labels, Clusters.of(user)), auc(a, labels, Clusters.of(user)))
    naive = difference(auc(b, labels), auc(a, labels))
    assert paired.se > 1.3 * naive.se


@pytest.mark.slow
def test_closed_form_agrees_with_a_poisson_bootstrap_over_users():
    """300 draws of one Poisson weight per user: the error of an error is 4 %."""
    rng = np.random.default_rng(7)
    a, b, labels, user = draw(rng, 1500, 8)
    closed = estimates((a, b, labels, user))
    loss_a, loss_b = (np.where(labels, -np.log(p), -np.log1p(-p)) for p in (a, b))
    drawn = {"auc difference": [], "logloss difference": [], "ne difference": [], "calibration": []}
    for _ in range(300):
        w = rng.poisson(1, 1500)[user].astype(float)
        rate = np.average(labels, weights=w)
        entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        change = np.average(loss_b - loss_a, weights=w)
        drawn["auc difference"].append(
            roc_auc_score(labels, b, sample_weight=w) - roc_auc_score(labels, a, sample_weight=w)
        )
        drawn["logloss difference"].append(change)
        drawn["ne difference"].append(change / entropy)
        drawn["calibration"].append(np.dot(w, a) / np.dot(w, labels))
    for name, values in drawn.items():
        assert closed[name].se == pytest.approx(np.std(values), rel=0.12), name
