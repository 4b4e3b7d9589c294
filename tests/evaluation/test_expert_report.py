"""The diagnosis of a real bundle, in the evaluation artifact."""

import json

import pytest

from recsys_mtl.evaluation import job
from recsys_mtl.evaluation.expert_report import expert_points
from recsys_mtl.evaluation.job import evaluate

from .feed import WORLD, load_feed, make_bundle, make_feed


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed") / "data"
    make_feed(root)
    return root


@pytest.fixture(scope="module")
def bundle(feed, tmp_path_factory):
    return make_bundle(load_feed(feed, tmp_path_factory.mktemp("home")))


def experts_of(manifest):
    return json.loads(manifest.path("experts.json").read_bytes())


def test_experts_are_judged_on_the_test_rows(feed, bundle, tmp_path):
    report = experts_of(evaluate(load_feed(feed, tmp_path), bundle, None))
    assert report["rows"] == WORLD.rows_per_day
    assert [gate["reader"] for gate in report["gates"]] == list(bundle.layout.task_names)
    assert [e["expert"] for e in report["experts"]] == [f"shared/{i}" for i in range(4)]
    for gate in report["gates"]:
        assert sum(gate["weights"].values()) == pytest.approx(1)
    assert all(alarm["verdict"] for alarm in report["alarms"])


def test_number_of_rows_is_bounded(feed, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "EXPERT_ROWS", 150)
    assert experts_of(evaluate(load_feed(feed, tmp_path), bundle, None))["rows"] == 150


def test_probe_sees_what_the_model_predicts_and_changes_nothing(feed, bundle, tmp_path):
    """Metrics with a diagnosis are those without."""
    with_experts = evaluate(load_feed(feed, tmp_path / "1"), bundle, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "has_gates", lambda bundle: False)
        without = evaluate(load_feed(feed, tmp_path / "2"), bundle, None)
    assert "experts.json" not in [entry.path for entry in without.files]
    assert (
        with_experts.path("metrics.json").read_bytes() == without.path("metrics.json").read_bytes()
    )


def test_tower_without_gates_has_no_diagnosis(feed, tmp_path):
    overrides = ["model.tower={kind: shared_bottom, hidden: [8], dim: 8}"]
    loaded = load_feed(feed, tmp_path, *overrides)
    evaluation = evaluate(loaded, make_bundle(loaded), None)
    assert "experts.json" not in [entry.path for entry in evaluation.files]


def test_points_to_log_have_values_and_unique_names():
    gate = {"layer": "1", "reader": "a", "entropy": 0.9, "row_entropy": 0.5, "own_weight": None}
    inner = {**gate, "effective": {"shared/0": 1.0}}
    last = {**gate, "layer": "2", "effective": {"a/0": 0.3, "shared/0": 0.7}}
    expert = {"layer": "2", "expert": "a/0", "zero_share": 0.5, "dead_share": 0.0, "rms": 1.0}
    expert |= {"mean": 0.1, "std": 1.0, "load": 0.3, "occupancy": None}
    points = dict(expert_points({"experts": [expert], "gates": [inner, last]}))
    assert points["diag/2/a/0/zero_share"] == 0.5
    assert (points["diag/a/a/0/w"], points["diag/a/shared/0/w"]) == (0.3, 0.7)
    assert points["diag/1/a/entropy"] == 0.9
    assert "diag/2/a/0/occupancy" not in points and "diag/1/a/own_weight" not in points
    assert len(points) == 6 + 4 + 2
