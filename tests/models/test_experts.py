"""Sums over mixtures, and the figures that follow, on numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from recsys_mtl.models.experts import (
    ExpertHealth,
    ExpertSums,
    GateHealth,
    expert_points,
    measure_experts,
)
from recsys_mtl.models.interface import Mixture
from tests.evaluation.taps import mixture, normal_outputs, sums_of

# Two rows, two experts with two units.
OUTPUTS = torch.tensor([[[0.0, 3.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]]])
WEIGHTS = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
BY_HAND = Mixture("1", "a", ("a/0", "shared/0"), WEIGHTS, OUTPUTS)


def measured(*mixtures, tasks=("a", "b")):
    experts, gates = measure_experts(sums_of(mixtures), tasks)
    return {e.expert: e for e in experts}, {g.reader: g for g in gates}


def test_figures_of_an_expert_by_hand():
    experts, _ = measured(BY_HAND)
    own, shared = experts["a/0"], experts["shared/0"]
    assert (own.zero_share, own.dead_share) == (0.75, 0.5)
    assert (own.mean, own.rms) == (0.75, 1.5)
    assert own.std == pytest.approx(math.sqrt(1.5**2 - 0.75**2))
    assert (shared.zero_share, shared.dead_share, shared.rms, shared.mean) == (0, 0, 1, 0.5)
    assert (own.load, shared.load) == (0.75, 0.25)


def test_figures_of_a_gate_by_hand():
    gate = measured(BY_HAND)[1]["a"]
    assert gate.weights == {"a/0": 0.75, "shared/0": 0.25}
    assert gate.entropy == pytest.approx(
        (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2)
    )
    # One row is certain, the other undecided.
    assert gate.row_entropy == pytest.approx(0.5)
    # Row 1 takes norm 3 from a/0; row 2 half of 0 and half of sqrt(2).
    strength = {"a/0": 3.0, "shared/0": math.sqrt(0.5)}
    total = sum(strength.values())
    for expert, share in gate.contributions.items():
        assert share == pytest.approx(strength[expert] / total)
    assert (gate.own_weight, gate.own_even) == (0.75, 0.5)


def test_self_gate_adds_to_the_use_of_own_experts_but_not_to_the_gates_entropy():
    own = torch.tensor([[0.5, 0.0], [0.3, 0.0]])
    _, gates = measured(Mixture("1", "a", BY_HAND.experts, WEIGHTS, OUTPUTS, own))
    plain = measured(BY_HAND)[1]["a"]
    gate = gates["a"]
    assert gate.own_weight == pytest.approx(0.75 + 0.4)
    assert gate.effective["a/0"] == pytest.approx(1.15)
    assert (gate.weights, gate.entropy) == (plain.weights, plain.entropy)
    # Row 1: 1.5 times norm 3.
    share = 4.5 / (4.5 + math.sqrt(0.5))
    assert gate.contributions["a/0"] == pytest.approx(share)


def test_batches_add_up_to_the_whole():
    z, w = normal_outputs(), torch.softmax(normal_outputs()[:, :, 0], dim=1)
    z[:, 1].relu_()
    whole = measured(mixture("a", w, z), tasks=("a",))
    parts = [
        mixture("a", w[rows], z[rows]) for rows in (slice(0, 7), slice(7, 300), slice(300, 400))
    ]
    experts, gates = measured(*parts, tasks=("a",))
    for name, expert in whole[0].items():
        for figure in ("zero_share", "dead_share", "rms", "mean", "std", "load"):
            assert getattr(experts[name], figure) == pytest.approx(
                getattr(expert, figure), rel=1e-6
            )
    assert gates["a"].row_entropy == pytest.approx(whole[1]["a"].row_entropy)
    assert gates["a"].contributions == pytest.approx(whole[1]["a"].contributions)
    np.testing.assert_allclose(z.mean(0), sums_of(parts).gates["1", "a"].mean_output, atol=1e-6)


def test_unit_that_wakes_once_is_not_dead():
    z = torch.zeros(400, 5, 10)
    z[123, 0, 4] = 0.1
    assert measured(mixture("a", outputs=z))[0]["a/0"].dead_share == pytest.approx(0.9)


def test_occupancy_is_the_largest_tasks_share_and_load_the_mean_over_readers():
    light, heavy = (0.9, 0.1, 0.0, 0.0, 0.0), (0.1, 0.3, 0.2, 0.2, 0.2)
    experts, _ = measured(mixture("a", light), mixture("b", heavy))
    shared = experts["shared/0"]
    assert (shared.occupancy, shared.occupant) == (pytest.approx(0.75), "b")
    assert shared.load == pytest.approx(0.2)
    assert experts["a/0"].occupancy is None


def test_reader_that_is_no_task_counts_for_load_but_not_for_occupancy():
    everybody = mixture("shared", (0.1, 0.6, 0.1, 0.1, 0.1), experts=mixture("a").experts)
    experts, gates = measured(mixture("a"), mixture("b"), everybody)
    assert experts["shared/0"].occupancy == pytest.approx(0.5)
    assert experts["shared/0"].load == pytest.approx((0.2 + 0.2 + 0.6) / 3)
    assert experts["a/0"].load == pytest.approx((0.2 + 0.1) / 2)
    assert gates["shared"].own_weight is None


def test_gate_without_own_experts_or_without_others_has_no_own_weight():
    shared = ("shared/0", "shared/1", "shared/2", "shared/3", "shared/4")
    own = ("b/0", "b/1", "b/2", "b/3", "b/4")
    _, gates = measured(mixture("a", experts=shared), mixture("b", experts=own))
    assert gates["a"].own_weight is None and gates["b"].own_weight is None


def test_single_expert_has_no_entropy():
    one = Mixture("1", "a", ("shared/0",), torch.ones(2, 1), OUTPUTS[:, :1])
    gate = measured(one)[1]["a"]
    assert (gate.entropy, gate.row_entropy) == (None, None)


def test_layers_are_kept_apart_and_in_order():
    sums = sums_of([mixture("a", layer="1"), mixture("a", layer="2"), mixture("b", layer="1")])
    assert sums.layers == ("1", "2")
    experts, _ = measure_experts(sums, ("a", "b"))
    assert [e.layer for e in experts] == ["1"] * 6 + ["2"] * 5


def test_half_precision_weights_are_summed_in_full():
    w = torch.full((4096, 2), 0.5, dtype=torch.bfloat16)
    sums = ExpertSums()
    z = torch.full((4096, 2, 1), 1 / 3, dtype=torch.bfloat16)
    sums(Mixture("1", "a", ("a/0", "shared/0"), w, z))
    assert sums.gates["1", "a"].weight.tolist() == [2048, 2048]
    assert sums.gates["1", "a"].mean_output[0, 0] == pytest.approx(float(z[0, 0, 0]))


def test_points_to_log_have_values_and_unique_names():
    inner = GateHealth("1", "a", 0.9, 0.5, {}, {"shared/0": 1.0}, {}, None, None)
    last = GateHealth("2", "a", 0.9, 0.5, {}, {"a/0": 0.3, "shared/0": 0.7}, {}, None, None)
    expert = ExpertHealth("2", "a/0", 0.5, 0.0, 1.0, 0.1, 1.0, 0.3, 1, None, "a")
    points = dict(expert_points([expert], [inner, last]))
    assert points["diag/2/a/0/zero_share"] == 0.5
    assert (points["diag/a/a/0/w"], points["diag/a/shared/0/w"]) == (0.3, 0.7)
    assert points["diag/1/a/entropy"] == 0.9
    assert "diag/2/a/0/occupancy" not in points
    assert "diag/1/a/own_weight" not in points
    assert len(points) == 6 + 4 + 2
