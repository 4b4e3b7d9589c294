"""Decisions: evidence, thresholds, hysteresis, restraint."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.restraint import held_out
from recsys_mtl.decisions.signs import below_target
from recsys_mtl.decisions.thresholds import Threshold, choose_thresholds
from recsys_mtl.errors import ConfigError, DataError
from recsys_mtl.spec.policy_file import load_policy
from tests.decisions.world import DAY, LABEL

SHIPPED = Path(__file__).parents[2] / "policies" / "ad_creatives.yaml"


def policy(folder, *edits):
    text = SHIPPED.read_text().replace("hold_out: 0.05", "hold_out: 0")
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "policy.yaml"
    path.write_text(text)
    return load_policy(path, LABEL)


def live(count=6, day=DAY, **change):
    """Creatives of two advertisers and three campaigns, bad by every sign unless changed."""
    number = np.arange(count)
    columns = {
        "creative": number,
        "campaign": number % 3,
        "advertiser": number % 2,
        "genre": ["shopping"] * count,
        "day": [day] * count,
        "landmark": np.full(count, 5),
        "impressions": np.full(count, 2000),
        "clicks": np.full(count, 10),
        "stop__7d": np.linspace(0.9, 0.95, count),
        "stop__cut_out__7d": np.linspace(0.85, 0.9, count),
        "stop__wear_out__7d": np.full(count, 0.05),
    }
    return pa.table(columns | change)


def thresholds(cut_out=0.8, wear_out=0.8):
    return [Threshold("cut_out", cut_out), Threshold("wear_out", wear_out)]


def actions(table):
    return dict(zip(table["creative"].to_pylist(), table["action"].to_pylist(), strict=True))


def over_days(rules, days, make=live, **change):
    found, before = [], None
    for day in range(days):
        table = make(day=DAY + timedelta(days=day), **change)
        before = decide(table, rules, LABEL, thresholds(), before)
        found.append(before)
    return found


@pytest.mark.parametrize(
    ("clicks", "impressions", "expected"), [(3, 400, 0.9715), (10, 1000, 0.9927)]
)
def test_evidence_against_a_target(clicks, impressions, expected):
    """Beta(2, 98) prior around a target of .02."""
    found = below_target(np.array([clicks]), np.array([impressions]), np.array([0.02]), 100)
    assert found[0] == pytest.approx(expected, abs=1e-4)


def test_a_stop_needs_two_days_in_a_row_and_one_creative_stays(tmp_path):
    rules = policy(tmp_path)
    first, second = over_days(rules, 2)
    assert set(actions(first).values()) == {"watch"}
    assert list(actions(second).values()).count("stop") == 3
    stopped = second.filter(pa.array([a == "stop" for a in second["action"].to_pylist()]))
    assert sorted(stopped["campaign"].to_pylist()) == [0, 1, 2]
    assert sum(second["kept_last"].to_pylist()) == 3


def test_a_day_without_signs_starts_the_count_anew(tmp_path):
    rules = policy(tmp_path)
    bad = decide(live(), rules, LABEL, thresholds())
    good = live(day=DAY + timedelta(days=1), stop__cut_out__7d=np.full(6, 0.1))
    middle = decide(good, rules, LABEL, thresholds(), bad)
    last = decide(live(day=DAY + timedelta(days=2)), rules, LABEL, thresholds(), middle)
    assert "stop" not in actions(last).values()


def test_the_cap_of_an_advertiser_keeps_the_most_urgent(tmp_path):
    rules = policy(tmp_path, ("cap_per_advertiser: 5", "cap_per_advertiser: 1"))
    _, second = over_days(rules, 2, campaign=np.arange(6) % 2)
    stops = [c for c, action in actions(second).items() if action == "stop"]
    assert sorted(stops) == [4, 5]
    assert sum(second["capped"].to_pylist()) == 2


def test_a_tired_creative_is_replaced_before_it_is_stopped(tmp_path):
    rules = policy(tmp_path)
    tired = {"stop__cut_out__7d": np.full(6, 0.05), "stop__wear_out__7d": np.full(6, 0.9)}
    found = [set(actions(table).values()) for table in over_days(rules, 4, **tired)]
    assert found[1] == {"prepare_replacement"}
    assert "stop" in found[3]


def test_without_evidence_of_its_own_clicks_nothing_is_stopped(tmp_path):
    rules = policy(tmp_path)
    for change in ({"clicks": np.full(6, 60)}, {"impressions": np.full(6, 100)}):
        table = over_days(rules, 3, **change)[-1]
        assert "stop" not in actions(table).values()


def test_the_hold_out_is_never_stopped_and_the_same_every_day(tmp_path):
    rules = policy(tmp_path, ("hold_out: 0", "hold_out: 0.3"), ("keep_live: 1", "keep_live: 0"))
    table = over_days(rules, 3, lambda **k: live(count=200, **k))[-1]
    chosen = table["hold_out"].to_numpy(zero_copy_only=False)
    assert 0.2 < chosen.mean() < 0.4
    stopped = np.array(table["action"].to_pylist()) == "stop"
    assert stopped.any()
    assert not (stopped & chosen).any()
    assert held_out(live(200), 0.3).sum() == chosen.sum()


def test_the_mode_changes_what_is_in_force_and_nothing_else(tmp_path):
    shadow = over_days(policy(tmp_path), 2)[-1]
    act = over_days(policy(tmp_path, ("mode: shadow", "mode: act")), 2)[-1]
    assert not any(shadow["effective"].to_pylist())
    assert all(act["effective"].to_pylist())
    assert shadow.drop_columns(["effective"]).equals(act.drop_columns(["effective"]))


def test_order_of_the_rows_does_not_matter(tmp_path):
    rules, rows = policy(tmp_path), live(count=40)
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(40)))
    once = decide(rows, rules, LABEL, thresholds())
    assert decide(shuffled, rules, LABEL, thresholds()).equals(once)
    assert once["rank"].to_pylist() == list(range(1, 41))


def test_thresholds_reach_their_precision_on_known_rows(tmp_path):
    rng = np.random.default_rng(3)
    p = rng.random(4000)
    event = (rng.random(4000) < p).astype(np.int8)
    validation = pa.table(
        {
            "entry": np.full(4000, 3),
            "exit": np.where(event > 0, 5, 30),
            "event": event,
            "stop__cut_out__7d": p,
            "stop__wear_out__7d": np.full(4000, 0.01),
        }
    )
    cut_out, wear_out = choose_thresholds(policy(tmp_path), LABEL, validation, validation)
    assert cut_out.value is not None
    assert event[p >= cut_out.value].mean() >= 0.9
    assert 0.7 < cut_out.value < 0.95
    assert wear_out.value is None


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"clicks": np.full(6, 3000)}, DataError, "clicks"),
        ({"creative": np.zeros(6, np.int64)}, DataError, "creative"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, change, error, text):
    with pytest.raises(error, match=text):
        decide(live(**change), policy(tmp_path), LABEL, thresholds())


def test_a_policy_that_does_not_fit_is_refused_at_its_line(tmp_path):
    for old, new, text in (
        ("mode: shadow", "mod: shadow", r"policy.yaml:3: mod: unknown key 'mod', did you mean"),
        ("horizon: 7", "horizon: 5", r"policy.yaml:4: horizon: .*P031"),
        ("wear_out:", "wear_ot:", r"did you mean 'wear_out'"),
    ):
        with pytest.raises(ConfigError, match=text):
            policy(tmp_path, (old, new))
