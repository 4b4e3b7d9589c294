"""Weights by mode, Kleinman's moments, back-off of groups, and counts that cannot be."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.ctr_weight import (
    MAX_CORRELATION,
    NO_SPREAD_STRENGTH,
    BetaPrior,
    CtrWeights,
    fit_ctr_weights,
    kleinman,
)

IMPRESSIONS = np.array([100, 200, 50, 1000, 400])
CLICKS = np.array([3, 1, 4, 15, 20])
PRIOR = BetaPrior(0.02, 100)


def counts(n: int, alpha: float, beta: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clicks and impressions of n ads with rates from Beta(alpha, beta)."""
    rng = np.random.default_rng(seed)
    impressions = rng.integers(50, 2000, n)
    return rng.binomial(impressions, rng.beta(alpha, beta, n)), impressions


def one_group(n: int) -> np.ndarray:
    return np.full(n, "a")


def test_kleinman_vector() -> None:
    prior = kleinman(CLICKS, IMPRESSIONS)
    assert prior is not None
    assert prior.mean == pytest.approx(0.0245714, abs=1e-7)
    assert prior.mean * prior.strength == pytest.approx(1.247517, abs=1e-5)
    assert (1 - prior.mean) * prior.strength == pytest.approx(49.523534, abs=1e-5)
    rates = CtrWeights("smoothed", prior).of(CLICKS, IMPRESSIONS, one_group(5)) - 1
    assert_allclose(rates, [0.028172, 0.008962, 0.052074, 0.015462, 0.047136], atol=1e-6)


def test_ads_without_impressions_say_nothing_about_the_prior() -> None:
    zeros = np.zeros(3, np.int64)
    padded = kleinman(np.concatenate([zeros, CLICKS]), np.concatenate([zeros, IMPRESSIONS]))
    assert padded == kleinman(CLICKS, IMPRESSIONS)


def test_kleinman_recovers_the_beta_of_a_simulation() -> None:
    """5,000 ads of Beta(2, 98): within 10 %."""
    prior = kleinman(*counts(5000, 2, 98))
    assert prior is not None
    assert prior.mean == pytest.approx(0.02, rel=0.1)
    assert prior.strength == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("clicks", "impressions"),
    [
        ([2, 2, 2], [100, 100, 100]),
        ([0, 0], [50, 60]),
        ([50, 60], [50, 60]),
        ([3], [100]),
        ([1, 0, 1], [1, 1, 1]),
        ([0, 0], [0, 0]),
        ([], []),
    ],
)
def test_no_prior_where_no_spread_can_be_seen(clicks: list[int], impressions: list[int]) -> None:
    assert kleinman(np.array(clicks, np.int64), np.array(impressions, np.int64)) is None


def test_correlation_is_capped() -> None:
    """All or nothing: rho is 1 or more, and a Beta needs less."""
    prior = kleinman(np.array([100, 0, 100, 0]), np.array([100, 100, 100, 100]))
    assert prior is not None
    assert prior.strength == pytest.approx(1 / MAX_CORRELATION - 1)


@pytest.mark.parametrize(
    ("mode", "weights"),
    [
        ("none", [1, 1, 1]),
        ("paper", [1, 1.03, 2]),
        ("smoothed", [1.02, 1.025, 1 + 6 / 104]),
        ("ratio", [1, 1.25, 6 / 104 / 0.02]),
    ],
)
def test_weights_by_hand(mode: str, weights: list[float]) -> None:
    """No impressions, 3 clicks in 100, 4 in 4: smoothed rates 2 / 100, 5 / 200, 6 / 104."""
    found = CtrWeights(mode, PRIOR).of(np.array([0, 3, 4]), np.array([0, 100, 4]), one_group(3))
    assert_allclose(found, weights, rtol=1e-12)


def test_ratio_is_bounded() -> None:
    clicks, impressions = np.array([0, 1000]), np.array([10**6, 1000])
    weights = CtrWeights("ratio", PRIOR).of(clicks, impressions, one_group(2))
    assert_allclose(weights, [0.2, 5])


def test_ratio_has_mean_one_over_the_training_table_and_one_scale() -> None:
    clicks, impressions = counts(300, 2, 98)
    groups = np.repeat(["a", "b", "c"], 100)
    fitted = fit_ctr_weights("ratio", clicks, impressions, groups)
    weights = fitted.of(clicks, impressions, groups)
    assert weights.mean() == pytest.approx(1, abs=1e-12)
    assert weights.std() > 0.1
    few = fitted.of(clicks[:7], impressions[:7], groups[:7])
    assert_allclose(few, weights[:7], rtol=0)


def test_ratio_compares_an_ad_with_its_group() -> None:
    """Of two groups with rates ten times apart, both have mean weight about 1."""
    low, high = counts(400, 2, 998, seed=1), counts(400, 2, 98, seed=2)
    clicks, impressions = (np.concatenate(pair) for pair in zip(low, high, strict=True))
    groups = np.repeat(["low", "high"], 400)
    fitted = fit_ctr_weights("ratio", clicks, impressions, groups)
    weights = fitted.of(clicks, impressions, groups)
    assert fitted.groups["low"] == kleinman(*low)
    assert fitted.groups["high"] == kleinman(*high)
    assert_allclose([weights[:400].mean(), weights[400:].mean()], 1, atol=0.1)


@pytest.mark.parametrize(
    ("ads", "shown", "own"), [(20, 20, True), (19, 19, False), (25, 19, False)]
)
def test_a_group_needs_twenty_ads_that_were_shown(ads: int, shown: int, own: bool) -> None:
    clicks, impressions = counts(200, 2, 98)
    clicks[shown:ads] = impressions[shown:ads] = 0
    groups = np.array(["small"] * ads + ["large"] * (200 - ads))
    fitted = fit_ctr_weights("smoothed", clicks, impressions, groups)
    assert ("small" in fitted.groups) == own
    overall = fitted.overall
    empty = np.zeros(2, np.int64)
    weights = fitted.of(empty, empty, np.array(["small", "never seen"]))
    assert weights[1] == 1 + overall.mean
    assert (weights[0] == 1 + overall.mean) != own


def test_a_group_whose_ads_are_all_alike_takes_the_prior_of_all() -> None:
    clicks, impressions = counts(100, 2, 98)
    clicks[:30], impressions[:30] = 2, 100
    groups = np.array(["alike"] * 30 + ["other"] * 70)
    assert set(fit_ctr_weights("ratio", clicks, impressions, groups).groups) == {"other"}


def test_if_no_ads_differ_the_prior_of_all_is_strong() -> None:
    fitted = fit_ctr_weights("ratio", np.full(30, 2), np.full(30, 100), one_group(30))
    assert fitted.overall == BetaPrior(0.02, NO_SPREAD_STRENGTH)
    assert not fitted.groups


@pytest.mark.parametrize("impressions", [0, 100])
@pytest.mark.parametrize("mode", ["none", "paper", "smoothed", "ratio"])
def test_without_any_click_all_weights_are_one(mode: str, impressions: int) -> None:
    table = np.zeros(30, np.int64), np.full(30, impressions), one_group(30)
    assert_allclose(fit_ctr_weights(mode, *table).of(*table), 1)


def test_more_clicks_than_impressions_are_refused_with_the_row() -> None:
    table = np.array([0, 7, 9]), np.array([0, 5, 8]), one_group(3)
    match = r"2 rows hold no count .* \(first at row 1: 7 clicks in 5 impressions\).*D061"
    with pytest.raises(DataError, match=match):
        fit_ctr_weights("ratio", *table)
    with pytest.raises(DataError, match=match):
        CtrWeights("paper", PRIOR).of(*table)


def test_negative_clicks_are_refused() -> None:
    with pytest.raises(DataError, match="first at row 1: -1 clicks"):
        CtrWeights("none", PRIOR).of(np.array([0, -1]), np.array([5, 5]), one_group(2))
