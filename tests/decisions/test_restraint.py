"""Stops are allowed in the order of urgency, as a loop over them would."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.restraint import held_out, restrain
from recsys_mtl.spec.policy_file import RestraintPolicy


def by_loop(campaign, advertiser, wanted, order, keep, cap):
    left = {c: int((campaign == c).sum()) for c in set(campaign.tolist())}
    used, stops = {}, np.zeros(len(wanted), bool)
    for row in order:
        c, a = int(campaign[row]), int(advertiser[row])
        if wanted[row] and left[c] > keep and used.get(a, 0) < cap:
            stops[row] = True
            left[c] -= 1
            used[a] = used.get(a, 0) + 1
    return stops


@pytest.mark.parametrize("seed", range(20))
def test_as_a_loop_over_the_most_urgent_first(seed):
    rng = np.random.default_rng(seed)
    count, keep, cap = 60, int(rng.integers(0, 3)), int(rng.integers(1, 6))
    campaign = rng.integers(0, 15, count)
    advertiser = campaign // 4
    wanted, order = rng.random(count) < 0.7, rng.permutation(count)
    table = pa.table({"campaign": campaign, "advertiser": advertiser})
    rules = RestraintPolicy(cap_per_advertiser=cap, keep_live=keep)
    found = restrain(table, wanted, order, rules)
    assert found.stops.tolist() == by_loop(campaign, advertiser, wanted, order, keep, cap).tolist()
    assert np.array_equal(wanted, found.stops | found.kept_last | found.capped)
    assert not (found.kept_last & found.capped).any()


def test_creatives_stay_in_each_ad_group_of_each_campaign():
    """Group numbers may begin anew in every campaign, and null is a group."""
    table = pa.table(
        {
            "campaign": ["k", "k", "k", "k", "l", "l", "l"],
            "ad_group": [1, 1, 2, 2, 1, None, None],
            "advertiser": [1] * 7,
        }
    )
    rules = RestraintPolicy(cap_per_advertiser=None)
    for columns, stops in ((table, [0, 2, 5]), (table.drop_columns(["ad_group"]), [0, 1, 2, 4, 5])):
        found = restrain(columns, np.ones(7, bool), np.arange(7), rules)
        assert np.flatnonzero(found.stops).tolist() == stops


@pytest.mark.parametrize("creative", [np.arange(100_000), [f"ad-{i}" for i in range(100_000)]])
def test_the_hold_out_has_its_share(creative):
    assert abs(held_out(pa.table({"creative": creative}), 0.05).mean() - 0.05) < 0.005


def test_without_a_hold_out_nobody_is_held():
    assert not held_out(pa.table({"creative": np.arange(1000)}), 0.0).any()
