"""The diagnosis of a real bundle, in the evaluation artifact."""

import json

import pytest

from recsys_mtl.evaluation import job
from recsys_mtl.evaluation.job import evaluate

from .feed import WORLD, load_feed, make_bundle


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
