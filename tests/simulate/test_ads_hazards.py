"""Hazards of the ads world: hand-computed values, identities of the paths, the split of causes."""

import numpy as np
import pytest

from recsys_mtl.simulate.ads_hazards import AdTruth, AtRisk, hazard_path, oracle_risk

E = np.e


def truth_of(quality=(0.0,), fatigue=(0.0,), strictness=(0.0,)):
    shape = np.ones(len(quality))
    latent = (np.array(values, float) for values in (quality, fatigue))
    return AdTruth(*latent, 0.02 * shape, np.array(strictness, float), 100 * shape)


def at(age, impressions=0.0, week=(0.0, 0), creative=(0,)):
    shape = np.ones(len(creative))
    week_days = np.full(len(creative), week[1])
    age = np.full(len(creative), age)
    return AtRisk(np.array(creative), age, impressions * shape, week[0] * shape, week_days)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_fresh_creative_of_average_quality_clicks_at_its_target():
    assert truth_of().ctr(at(1)) == pytest.approx([0.02], rel=1e-12)
    assert truth_of(quality=[1.0]).ctr(at(1)) == pytest.approx([0.02 * E**0.6], rel=1e-12)


def test_click_rate_falls_with_age_and_with_impressions():
    worn = at(11, impressions=2000 * (E - 1))
    assert truth_of().ctr(worn) == pytest.approx([0.02 * np.exp(-0.1 * (1 + 1))], rel=1e-12)
    tired = truth_of(fatigue=[1.0]).ctr(worn)
    assert tired == pytest.approx([0.02 * np.exp(-0.1 * E**0.8 * 2)], rel=1e-12)


def test_hazards_by_hand():
    truth = truth_of(strictness=[0.5])
    young = truth.hazards(at(9, week=(0.14, 7)), np.array([0.01]))
    assert young == pytest.approx(np.array([[sigmoid(-1 + 0.5 + 3 * np.log(2)), 0]]), rel=1e-12)
    old = truth.hazards(at(10, week=(0.12, 6)), np.array([0.01]))
    assert old == pytest.approx(np.array([[0, sigmoid(-4.8 + 6 * np.log(2))]]), rel=1e-12)


def test_delivery_grows_with_the_root_of_the_click_rate():
    assert truth_of().delivery(at(1), np.array([0.08])) == pytest.approx([200.0])


def test_the_first_week_is_remembered_and_later_days_are_not():
    before = at(7, impressions=10.0, week=(0.1, 6))
    after = before.tomorrow(np.array([0.03]), np.array([5]))
    assert (after.age[0], after.impressions[0], after.week_days[0]) == (8, 15, 7)
    assert after.week_sum[0] == pytest.approx(0.13)
    later = after.tomorrow(np.array([0.03]), np.array([5]))
    assert (later.week_sum[0], later.week_days[0]) == (after.week_sum[0], 7)


@pytest.fixture(scope="module")
def path():
    rng = np.random.default_rng(0)
    truth = truth_of(*rng.normal(size=(3, 50)))
    ads = at(1, creative=range(50))
    return truth, ads, hazard_path(truth, ads, 40)


def test_outcomes_of_a_path_sum_to_one(path):
    total = path[2].survival() + path[2].incidence().sum(1)
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


def test_a_path_starts_with_the_hazards_of_today(path):
    truth, ads, whole = path
    np.testing.assert_array_equal(whole.hazard[:, :, 0], truth.hazards(ads, truth.ctr(ads)))


def test_a_path_goes_on_where_a_shorter_one_ends(path):
    truth, ads, whole = path
    ctr = truth.ctr(ads)
    after = ads.tomorrow(ctr, 1 + truth.delivery(ads, ctr))
    rest = hazard_path(truth, after, 39).hazard
    np.testing.assert_allclose(rest, whole.hazard[:, :, 1:], rtol=1e-12)


def test_causes_are_split_at_age_ten(path):
    cut_out, wear_out = path[2].hazard[:, 0], path[2].hazard[:, 1]
    assert (cut_out[:, :9] > 0).all()
    assert (wear_out[:, 9:] > 0).all()
    assert not cut_out[:, 9:].any()
    assert not wear_out[:, :9].any()


def test_mean_life_is_the_mean_of_delivered_days(path):
    whole = path[2]
    alive = whole.survival()
    stop_on = -np.diff(np.concatenate([np.ones((50, 1)), alive], axis=1), axis=1)
    days = stop_on @ np.arange(1, 41) + 40 * alive[:, -1]
    np.testing.assert_allclose(whole.mean_life(), days, rtol=1e-12)
    np.testing.assert_allclose(oracle_risk(*path[:2], 40), 1 - days / 40, rtol=1e-12)
