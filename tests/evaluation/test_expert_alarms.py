"""Every state of health raises the alarm that it should, and no other."""

import json

import pytest
import torch

from recsys_mtl.evaluation.expert_alarms import LIMITS, diagnose, occupancy_limit
from recsys_mtl.models.experts import ExpertSums

from .taps import RATES, SHARED, WIDTH, mixture, normal_outputs, rows_of, sums_of, tower


def alarms_of(sums):
    found = diagnose(sums, RATES).alarms
    assert all(
        a.sentence.endswith(".") and str(a.expert or a.reader or "") in a.sentence for a in found
    )
    return [(a.kind, a.level, a.expert, a.reader) for a in found]


def with_zeros(share, expert):
    """Outputs of one expert with this share of zeros, no unit always zero, at equal scale."""
    z = normal_outputs()
    rows = torch.arange(len(z))[:, None] + torch.arange(WIDTH)
    z[:, expert] *= ((rows % WIDTH) >= round(share * WIDTH)) / (1 - share) ** 0.5
    return z


def everybody(z):
    return tower(**{task: mixture(task, outputs=z) for task in RATES})


def served(task, weight, others):
    """Weights with which `task` alone uses shared/0; an even gate elsewhere."""
    rest = (1 - others) / 4
    changed = {t: mixture(t, (rest, others, rest, rest, rest)) for t in RATES}
    rest = (1 - weight) / 4
    changed[task] = mixture(task, (rest, weight, rest, rest, rest))
    return tower(**changed)


def test_healthy_tower_raises_nothing():
    assert alarms_of(tower()) == []


def test_expert_with_nine_tenths_zeros_has_collapsed():
    assert alarms_of(everybody(with_zeros(0.9, 1))) == [("collapse", "alarm", "shared/0", None)]


def test_expert_with_three_quarters_zeros_is_warned_about():
    """0.7 + 0.3 / 5 = 0.76."""
    z = with_zeros(0.7, 1)
    z[: len(z) // 5, 1] = 0
    assert alarms_of(everybody(z)) == [("collapse", "warn", "shared/0", None)]


def test_outputs_of_very_different_size_are_warned_about():
    z = normal_outputs()
    z[:, 2] *= 5
    assert alarms_of(everybody(z)) == [("collapse", "warn", None, None)]


def test_shared_expert_of_a_single_task_is_degraded():
    """Load 0.05: (0.386 + 7 * 0.002) / 8."""
    assert alarms_of(served("c", 0.386, 0.002)) == [("degradation", "alarm", "shared/0", "c")]


def test_the_same_expert_with_hardly_any_load_is_idle():
    """Load 0.01: (0.08 - 7 e-6) / 8."""
    assert alarms_of(served("c", 0.08, 0.0)) == [("idle", "warn", "shared/0", None)]


def test_shared_expert_that_mostly_serves_one_task_is_warned_about():
    """Occupancy 0.4 / (0.4 + 7 * 0.03)."""
    assert alarms_of(served("c", 0.4, 0.03)) == [("degradation", "warn", "shared/0", "c")]


def test_sparse_task_that_ignores_its_own_expert_underfits():
    ignoring = mixture("h", (0.0, 0.25, 0.25, 0.25, 0.25))
    assert alarms_of(tower(h=ignoring)) == [("underfitting", "alarm", None, "h")]


def test_dense_task_that_ignores_its_own_expert_is_warned_about():
    ignoring = mixture("a", (0.0, 0.25, 0.25, 0.25, 0.25))
    assert alarms_of(tower(a=ignoring)) == [("underfitting", "warn", None, "a")]


def test_self_gate_silences_underfitting():
    own = rows_of((0.2, 0.0, 0.0, 0.0, 0.0))
    fed = mixture("h", (0.0, 0.25, 0.25, 0.25, 0.25), self_weights=own)
    assert alarms_of(tower(h=fed)) == []


def test_one_hot_rows_behind_balanced_means_are_polarised():
    one_hot = torch.eye(5).repeat(80, 1)
    assert alarms_of(tower(d=mixture("d", one_hot))) == [("polarisation", "warn", None, "d")]


def test_gates_that_use_one_expert_each_alarm_when_they_are_half_of_the_tasks():
    """Each prefers another shared expert or its own, so that none is idle or taken by one task."""

    def loving(task, k):
        weights = [0.005] * 5
        weights[k] = 0.98
        return mixture(task, weights)

    few = {task: loving(task, 0) for task in "abc"}
    assert alarms_of(tower(**few)) == [("polarisation", "warn", None, t) for t in "abc"]
    half = {task: loving(task, 0) for task in "abcd"}
    assert alarms_of(tower(**half)) == [("polarisation", "alarm", None, t) for t in "abcd"]


def test_tower_of_shared_experts_only_is_warned_about_occupancy_at_most():
    gates = [mixture(t, (0.15, 0.2, 0.2, 0.2, 0.25), experts=("shared/9", *SHARED)) for t in RATES]
    gates = [
        mixture(
            t, (0.9 if t == "c" else 0.01, *[0.025 if t == "c" else 0.2475] * 4), experts=g.experts
        )
        for t, g in zip(RATES, gates, strict=True)
    ]
    assert ("degradation", "warn", "shared/9", "c") in alarms_of(sums_of(gates))
    assert not [a for a in alarms_of(sums_of(gates)) if a[1] == "alarm"]


def test_expert_that_only_other_categories_ignore_is_not_idle():
    """In an inner layer the gate of `shared` passes an expert on to everybody."""
    names = ("x/0", *SHARED)
    category = mixture("x", (0.25, 0.0, 0.25, 0.25, 0.25), experts=names)
    everyone = mixture("shared", (0.2,) * 5, experts=names)
    assert alarms_of(sums_of([category, everyone])) == []
    ignoring = mixture("shared", (0.25, 0.0, 0.25, 0.25, 0.25), experts=names)
    assert alarms_of(sums_of([category, ignoring])) == [("idle", "warn", "shared/0", None)]


def selector(task, weights):
    names = tuple(f"field/{i}" for i in range(5))
    return mixture(task, weights, layer="selector", experts=names)


def even_but(k, weight):
    weights = [(1 - weight) / 4] * 5
    weights[k] = weight
    return weights


@pytest.mark.parametrize(("weight", "level"), [(0.95, "alarm"), (0.8, "warn")])
def test_selector_that_reads_one_field(weight, level):
    gates = [selector("a", even_but(2, weight)), selector("b", even_but(1, 0.4))]
    assert alarms_of(sums_of(gates)) == [("selector", level, "field/2", "a")]


def test_selectors_that_all_read_alike():
    alike = [selector(task, even_but(1, 0.4)) for task in "ab"]
    assert alarms_of(sums_of(alike)) == [("selector", "alarm", None, None)]
    assert alarms_of(sums_of([*alike, selector("c", even_but(3, 0.5))])) == []


def test_occupancy_limit_keeps_its_place_between_even_and_sole_use():
    assert occupancy_limit(0.6, 8) == pytest.approx(0.6)
    # 0.6 lies (0.6 - 1/8) / (7/8) = 19/35 of the way from 1/8 to 1.
    assert occupancy_limit(0.6, 2) == pytest.approx(0.5 + 0.5 * 19 / 35)
    assert occupancy_limit(1.0, 3) == 1.0


def test_value_and_threshold_stand_with_the_alarm():
    (alarm,) = diagnose(tower(h=mixture("h", (0.0, *[0.25] * 4))), RATES).alarms
    assert (alarm.value, alarm.threshold) == (0.0, pytest.approx(LIMITS.own_alarm * 0.2))
    assert "Task h gives its own experts 0.0% of its weight (20% would be even)" in alarm.sentence


def test_correlation_of_own_weight_with_rate():
    """Own weight proportional to the log of the rate."""
    import math

    gates = []
    for task, rate in RATES.items():
        own = 0.4 + 0.05 * math.log(rate)
        gates.append(mixture(task, (own, *[(1 - own) / 4] * 4)))
    diagnosis = diagnose(sums_of(gates), RATES)
    assert diagnosis.rate_correlation["1"] == pytest.approx(1, abs=1e-6)
    assert diagnose(tower(), RATES).rate_correlation["1"] is None


def test_diagnosis_is_json_and_counts_rows():
    report = json.loads(json.dumps(diagnose(tower(), RATES).as_json(), allow_nan=False))
    assert report["rows"] == 400
    assert {e["expert"] for e in report["experts"]} == {*SHARED, *(f"{t}/0" for t in RATES)}


def test_tower_without_gates_has_an_empty_diagnosis():
    assert diagnose(ExpertSums(), RATES).as_json()["alarms"] == ()


def test_task_without_a_positive_row_does_not_break_the_diagnosis():
    diagnosis = diagnose(tower(h=mixture("h", (0.0, *[0.25] * 4))), {**RATES, "h": 0.0})
    assert [a.reader for a in diagnosis.alarms] == ["h"]


def test_dead_experts_do_not_break_the_ratio_of_sizes():
    kinds = {(a[0], a[2]) for a in alarms_of(everybody(torch.zeros(400, 5, WIDTH)))}
    assert kinds == {("collapse", name) for name in (*SHARED, *(f"{t}/0" for t in RATES))}
