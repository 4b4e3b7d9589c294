"""What a policy stopped comes back as censored: the next model does not learn from it."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_mtl.decisions.decide import decide
from recsys_mtl.ingest.alive_days import alive_days
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from tests.decisions.world import LABEL, THRESHOLDS, live, policy
from tests.ingest.delivery_days import SCHEMA, log_of, on

DAYS = 8
"""Of the log; the policy acts on the morning of the sixth."""


def acted():
    """Creatives 0 and 1 deliver every day; the policy stops the first."""
    table = live([0.9, 0.1], clicks=[10, 90], creative=[0, 1], day=on(6))
    rules = policy("act", hysteresis_days=1, keep_live=0)
    decisions = decide(table, rules, LABEL, THRESHOLDS)
    in_force = decisions.filter(
        pc.and_(decisions["effective"], pc.equal(decisions["action"], "stop"))
    )
    assert in_force["creative"].to_pylist() == [0]
    return in_force


def log_after(stops, status, flagged):
    """The log that an ad system delivers once it has carried the stops out."""
    rows = []
    for row in log_of(["d" * DAYS, "d" * DAYS]).to_pylist():
        stop = stops.filter(pc.equal(stops["creative"], row["creative"]))
        if stop.num_rows and row["day"] >= stop["day"][0].as_py():
            if row["day"] > stop["day"][0].as_py():
                continue
            row |= {"status": status, "stopped": flagged}
            row |= dict.fromkeys(("impressions", "clicks", "conversions", "spend"), 0)
        # A creative that was there on the first day needs its launch.
        rows.append(row | {"launched": on(1)})
    return pa.Table.from_pylist(rows, SCHEMA)


def label_of(log, source):
    rules = LandmarkRules(landmarks=(3,), stop_source=source, silent_days=2)
    rows = landmark_rows(log, rules, on(DAYS)).table.to_pylist()
    (row,) = [row for row in rows if row["creative"] == 0]
    return row["exit"], row["stopped"], row["cause"], row["censored_by"]


@pytest.mark.parametrize("source", ["flag", "silence", "either"])
@pytest.mark.parametrize("flagged", [False, True])
def test_a_stop_by_policy_censors_however_stops_are_told(source, flagged):
    log = log_after(acted(), "policy", flagged)
    assert label_of(log, source) == (5, 0, None, "policy")


@pytest.mark.parametrize(
    ("source", "flagged"), [("flag", True), ("silence", False), ("either", True)]
)
def test_without_its_status_the_same_stop_would_be_learned_as_an_operators(source, flagged):
    log = log_after(acted(), "active", flagged)
    exit_, stopped, cause, _ = label_of(log, source)
    assert (stopped, cause) == (1, "cut_out") and exit_ in (5, 6)


def test_what_was_stopped_is_not_alive_the_day_after():
    log = log_after(acted(), "policy", False)
    rules, window = LandmarkRules(stop_source="flag"), (on(5), on(DAYS))
    rows = alive_days(log, pa.array([0, 1]), rules, window).to_pylist()
    alive = [(row["creative"], row["day"]) for row in rows]
    assert sorted(alive) == [(0, on(5)), (1, on(5)), (1, on(6)), (1, on(7))]
