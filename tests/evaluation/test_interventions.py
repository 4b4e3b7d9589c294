"""Interventions change what they say, and verdicts follow from paired differences."""

import json

import numpy as np
import pytest
import torch

from recsys_mtl.evaluation.expert_alarms import Alarm
from recsys_mtl.evaluation.interventions import (
    Effect,
    Outcomes,
    averaged,
    try_alarms,
    uniform,
    without,
)
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.models.experts import ExpertSums
from recsys_mtl.models.interface import Mixture

from .taps import mixture, sums_of

GATE = (0.1, 0.2, 0.3, 0.4, 0.0)
N = 4000


def test_dropping_renormalises_the_rest_and_not_the_self_gate():
    own = torch.zeros(400, 5)
    own[:, 0], own[:, 1] = 0.5, 0.7
    changed = without("1", frozenset(["shared/0"]))(mixture("a", GATE, self_weights=own))
    expected = torch.tensor([0.1, 0, 0.3, 0.4, 0.0]) / 0.8
    torch.testing.assert_close(changed.weights[7], expected)
    torch.testing.assert_close(changed.self_weights[7], torch.tensor([0.5, 0, 0, 0, 0]))


def test_dropping_all_that_a_gate_uses_leaves_the_rest_evenly():
    changed = without("1", frozenset(["a/0"]))(mixture("a", (1.0, 0.0, 0.0, 0.0, 0.0)))
    torch.testing.assert_close(changed.weights[3], torch.tensor([0, 0.25, 0.25, 0.25, 0.25]))


def test_dropping_the_only_expert_leaves_nothing():
    one = Mixture("1", "a", ("shared/0",), torch.ones(2, 1), torch.ones(2, 1, 3))
    assert without("1", frozenset(["shared/0"]))(one).sum().abs().max() == 0


def test_averaging_puts_the_mean_in_place_of_outputs():
    gate = mixture("a", GATE)
    changed = averaged("1", frozenset(["shared/1"]), sums_of([gate]))(gate)
    torch.testing.assert_close(changed.outputs[:, 2], gate.outputs[:, 2].mean(0).expand(400, -1))
    assert torch.equal(changed.outputs[:, :2], gate.outputs[:, :2])
    assert changed.weights is gate.weights


def test_even_weights_are_even_for_one_gate_only():
    probe = uniform("1", "a")
    torch.testing.assert_close(probe(mixture("a", GATE)).weights, torch.full((400, 5), 0.2))
    other = mixture("b", GATE)
    assert probe(other) is other


@pytest.mark.parametrize("layer", ["1", "2"])
def test_other_layers_and_gates_are_left_alone(layer):
    gate = mixture("a", GATE, layer="3")
    for probe in (without(layer, frozenset(["a/0"])), uniform(layer, "a")):
        assert probe(gate) is gate
    unread = mixture("b", GATE, layer=layer)
    assert without(layer, frozenset(["a/0"]))(unread) is unread
    assert averaged(layer, frozenset(["a/0"]), ExpertSums())(unread) is unread


class Tower:
    """Two tasks whose logit is the mixture of an own and two shared experts; labels follow it."""

    def __init__(self, weights, signal):
        """Weights by task; `signal` by task says which expert's output decides its labels."""
        random = np.random.default_rng(0)
        z = {name: 2 * random.standard_normal(N) for name in ("a/0", "b/0", "shared/0", "shared/1")}
        self.gates = []
        labels = []
        for task, w in weights.items():
            names = (f"{task}/0", "shared/0", "shared/1")
            outputs = torch.tensor(np.stack([z[name] for name in names], 1), dtype=torch.float32)
            w_BK = torch.tensor(w, dtype=torch.float32).expand(N, -1)
            self.gates.append(Mixture("1", task, names, w_BK, outputs[:, :, None]))
            rates = 1 / (1 + np.exp(-sum(z[name] for name in signal[task])))
            labels.append(random.random(N) < rates)
        self.outcomes = Outcomes(
            ("a", "b"), np.stack(labels, 1), np.ones((N, 2), bool), Clusters.singletons(N)
        )
        self.sums = sums_of(self.gates)

    def score(self, probe):
        logits = torch.cat([probe(gate).sum() for gate in self.gates], dim=1)
        return torch.sigmoid(logits.double()).numpy()

    def tested(self, kind, expert=None, reader=None, level="alarm", layer="1"):
        alarm = Alarm(kind, level, layer, expert, reader, 0.5, 0.1, "Words.")
        return try_alarms([alarm], self.sums, self.score, self.outcomes)[0]


ALONE = {"a": ("shared/0",), "b": ("shared/1",)}


def test_expert_with_hardly_any_weight_is_idle_but_not_one_that_decides():
    weights = {"a": (0.0, 0.9999, 0.0001), "b": (0.0, 0.0001, 0.9999)}
    split = Tower(weights, ALONE)
    assert split.tested("idle", "shared/0", level="warn").verdict == "not confirmed"
    weights = {"a": (0.0, 0.9999, 0.0001), "b": (0.0, 0.9999, 0.0001)}
    same = Tower(weights, {"a": ("shared/0",), "b": ("shared/0",)})
    idle = same.tested("idle", "shared/1", level="warn")
    assert idle.verdict == "confirmed"
    assert idle.intervention == "weight of shared/1 taken away"


def test_degradation_is_confirmed_when_the_occupant_alone_loses():
    alone = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    tested = alone.tested("degradation", "shared/0", "a")
    assert tested.verdict == "confirmed"
    assert tested.effects["a"].loses and not tested.effects["b"].loses
    assert alone.tested("degradation", "shared/0", "b").verdict == "not confirmed"


def test_degradation_is_not_confirmed_when_others_lose_as_well():
    both = Tower(
        {"a": (0.1, 0.9, 0.0), "b": (0.1, 0.9, 0.0)}, {"a": ("shared/0",), "b": ("shared/0",)}
    )
    assert both.tested("degradation", "shared/0", "a").verdict == "not confirmed"


def test_underfitting_is_confirmed_when_own_experts_are_not_missed():
    unused = Tower({"a": (0.0, 1.0, 0.0), "b": (0.2, 0.4, 0.4)}, ALONE)
    tested = unused.tested("underfitting", reader="a")
    assert (tested.verdict, tested.effects["a"].logloss) == (
        "confirmed",
        pytest.approx(0, abs=1e-9),
    )
    vital = Tower({"a": (0.2, 0.8, 0.0), "b": (0.2, 0.4, 0.4)}, {**ALONE, "a": ("a/0", "shared/0")})
    assert vital.tested("underfitting", reader="a").verdict == "not confirmed"


def test_polarisation_is_confirmed_when_even_weights_are_no_worse():
    """Labels of a follow the sum of all three experts, but its gate reads one of them."""
    blind = Tower({"a": (0.0, 1.0, 0.0), "b": (0.2, 0.4, 0.4)}, {**ALONE, "a": ("a/0", "shared/1")})
    assert blind.tested("polarisation", reader="a").verdict == "confirmed"
    right = Tower({"a": (0.0, 1.0, 0.0), "b": (0.2, 0.4, 0.4)}, ALONE)
    tested = right.tested("polarisation", reader="a")
    assert tested.verdict == "needs retraining"
    assert tested.effects["b"].logloss == 0


def test_collapse_is_left_to_retraining_with_its_effects_stated():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    tested = tower.tested("collapse", "shared/0")
    assert tested.verdict == "needs retraining"
    assert tested.effects["a"].auc < -0.1


def test_effect_is_the_paired_difference_of_log_loss():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    effect = tower.tested("degradation", "shared/0", "a").effects["a"]
    before = tower.score(lambda m: m)[:, 0]
    after = tower.score(without("1", frozenset(["shared/0"])))[:, 0]
    y = tower.outcomes.labels[:, 0]
    d = np.log(np.where(y, before, 1 - before)) - np.log(np.where(y, after, 1 - after))
    assert effect.logloss == pytest.approx(d.mean(), rel=1e-10)
    assert effect.logloss_se == pytest.approx(d.std(ddof=1) / np.sqrt(N), rel=1e-10)
    own = -np.log(np.where(y, before, 1 - before)).mean()
    assert effect.relative_logloss == pytest.approx(d.mean() / own, rel=1e-10)


@pytest.mark.parametrize(
    ("logloss", "se", "relative", "loses"),
    [
        (0.01, 0.004, 0.02, True),
        (0.01, 0.006, 0.02, False),
        (0.0001, 0.00001, 0.0009, False),
        (-0.01, 0.001, -0.02, False),
        (None, None, None, False),
    ],
)
def test_losing_takes_two_standard_errors_and_a_thousandth(logloss, se, relative, loses):
    assert Effect(logloss, se, relative, None).loses == loses


@pytest.mark.parametrize(
    ("relative", "auc", "nothing"),
    [
        (0.0009, -0.0004, True),
        (-0.0011, 0.0, False),
        (0.0, 0.0006, False),
        (0.0, None, True),
        (None, None, False),
    ],
)
def test_unused_takes_both_log_loss_and_auc(relative, auc, nothing):
    assert Effect(0.0, 0.0, relative, auc).is_nothing == nothing


def test_warnings_and_selectors_are_not_tested():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    for tested in (
        tower.tested("degradation", "shared/0", "a", level="warn"),
        tower.tested("selector", "field/0", "a"),
    ):
        assert (tested.verdict, tested.effects) == ("not tested", {})


def test_inner_layers_are_tested_by_means():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    tower.sums(mixture("a", layer="2"))
    tested = tower.tested("degradation", "shared/0", "a")
    assert tested.intervention == "outputs of shared/0 replaced by their mean"
    assert tested.verdict == "confirmed"


def test_masked_rows_count_for_nothing_and_a_task_without_rows_is_undefined():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    masks = np.zeros((N, 2), bool)
    masks[:1000, 0] = True
    labels, clusters = tower.outcomes.labels.copy(), tower.outcomes.clusters
    tower.outcomes = Outcomes(("a", "b"), labels, masks, clusters)
    tested = tower.tested("degradation", "shared/0", "a")
    labels[1000:] = ~labels[1000:]
    assert tower.tested("degradation", "shared/0", "a").effects == tested.effects
    assert tested.effects["b"].logloss is None
    assert tower.outcomes.rates() == {"a": labels[:1000, 0].mean(), "b": 0.0}
    json.dumps(tested.as_json(), allow_nan=False)


def test_json_holds_alarm_intervention_and_verdict_together():
    tower = Tower({"a": (0.1, 0.9, 0.0), "b": (0.1, 0.0, 0.9)}, ALONE)
    record = tower.tested("degradation", "shared/0", "a").as_json()
    assert (record["kind"], record["expert"], record["verdict"]) == (
        "degradation",
        "shared/0",
        "confirmed",
    )
    assert set(record["effects"]) == {"a", "b"}
