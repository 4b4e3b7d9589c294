import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.manifest import is_published
from recsys_mtl.errors import ConfigError, DataError, IntegrityError
from recsys_mtl.evaluation import job
from recsys_mtl.evaluation.job import evaluate
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.registry.gate import gate
from recsys_mtl.registry.holdout import Contender
from recsys_mtl.registry.predictions import read_predictions
from recsys_mtl.spec.pipeline import GateConfig, Margins

from .feed import WORLD, FakeBundle, fake_bundle, load_feed, make_feed

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed") / "data"
    make_feed(root)
    return root


@pytest.fixture(scope="module")
def bundle(feed, tmp_path_factory):
    return fake_bundle(load_feed(feed, tmp_path_factory.mktemp("ingested")))


def files_of(manifest):
    return {entry.path: manifest.path(entry.path).read_bytes() for entry in manifest.files}


def test_exactly_the_test_rows_are_predicted_once(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    raw = pq.read_table(feed / "impressions" / "2026-03-05.parquet")
    rows = read_predictions(manifest)
    assert sorted(rows["row_id"].to_pylist()) == raw["impression_id"].to_pylist()
    assert manifest.meta["rows"] == WORLD.rows_per_day
    assert manifest.meta["min_time_us"] >= manifest.meta["interval"]["end_us"] - DAY
    by_id = dict(zip(raw["impression_id"].to_pylist(), raw["is_purchase"].to_pylist(), strict=True))
    assert rows["label__purchase"].to_pylist() == [by_id[i] for i in rows["row_id"].to_pylist()]


def test_metrics_are_those_of_the_predictions_files(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    metrics = json.loads(manifest.path("metrics.json").read_bytes())
    rows = read_predictions(manifest)
    ratio = metrics["tasks"]["click"]["calibration_ratio"]["value"]
    assert ratio == rows["p__click"].to_numpy().sum() / rows["label__click"].to_numpy().sum()
    assert set(metrics["slices"]) == {"topic", "hour"}
    assert sum(s["click"]["auc"]["n"] for s in metrics["slices"]["topic"].values()) == 600
    assert set(json.loads(manifest.path("calibration.json").read_bytes())) == set(metrics["tasks"])


def test_oracle_is_reported(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    oracle = json.loads(manifest.path("metrics.json").read_bytes())["oracle"]
    for task in oracle.values():
        assert task["regret"] == pytest.approx(task["oracle_auc"] - task["expected_auc"])
        assert task["oracle_auc"] > 0.65
    without = evaluate(load_feed(feed, tmp_path, "evaluation.oracle=null"), bundle, None)
    assert "oracle" not in json.loads(without.path("metrics.json").read_bytes())


def test_a_finished_evaluation_is_returned_and_another_bundle_is_another(feed, bundle, tmp_path):
    loaded = load_feed(feed, tmp_path)
    first = evaluate(loaded, bundle, None)
    before = first.path("metrics.json").stat().st_mtime_ns
    again = evaluate(loaded, bundle, None)
    assert (again.dir, again.sha) == (first.dir, first.sha)
    assert again.path("metrics.json").stat().st_mtime_ns == before
    other = evaluate(loaded, replace(bundle, sha="b" * 64), None)
    assert other.dir != first.dir
    assert other.meta["holdout_fp"] == first.meta["holdout_fp"]


def test_workers_and_other_homes_write_the_same_bytes(feed, bundle, tmp_path):
    one = evaluate(load_feed(feed, tmp_path / "1"), bundle, None)
    two = evaluate(load_feed(feed, tmp_path / "2", "ingest.workers=2"), bundle, None)
    assert files_of(one) == files_of(two)
    assert one.sha == two.sha
    assert not (one.dir / "_work").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["first shard", "second shard", "before publish"])
def test_rerun_after_a_kill_writes_the_same_bytes(feed, bundle, tmp_path, monkeypatch, at):
    straight = evaluate(load_feed(feed, tmp_path / "1"), bundle, None)
    loaded = load_feed(feed, tmp_path / "2")
    calls = []

    class Dying(FakeBundle):
        def predict(self, encoded):
            calls.append(encoded.num_rows)
            if len(calls) == {"first shard": 1, "second shard": 2}.get(at):
                raise Killed
            return super().predict(encoded)

    dying = Dying(bundle.spec, bundle.fit)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at == "before publish":
            patch.setattr(job, "publish", _kill)
        evaluate(loaded, dying, None)
    assert not any(is_published(p) for p in (tmp_path / "2").rglob("*") if p.is_dir())
    resumed = evaluate(loaded, dying, None)
    assert files_of(resumed) == files_of(straight)
    lost = {"first shard": 1, "second shard": 1, "before publish": 0}[at]
    assert len(calls) == 2 + lost


def _kill(*args):
    raise Killed


def test_model_that_predicts_nan_publishes_nothing(feed, bundle, tmp_path):
    broken = replace(bundle, tilt=np.nan)
    with pytest.raises(IntegrityError, match=r"values of 'click' that are no probabilities"):
        evaluate(load_feed(feed, tmp_path), broken, None)
    assert not any(is_published(p) for p in tmp_path.rglob("*") if p.is_dir())


def test_bundle_of_another_source_is_refused(feed, bundle, tmp_path):
    with pytest.raises(ConfigError, match="the bundle predicts 'ads'"):
        evaluate(load_feed(feed, tmp_path), replace(bundle, source="ads"), None)


def test_window_without_test_rows_is_refused(feed, bundle, tmp_path):
    loaded = load_feed(feed, tmp_path)
    spec = loaded.spec
    late = spec.model_copy(
        update={"split": spec.split.model_copy(update={"test_from": _date("2027-01-01")})}
    )
    loaded = replace(loaded, spec=late, pipeline=loaded.pipeline.model_copy(update={"split": None}))
    with pytest.raises(DataError, match="no row of the window is a test row"):
        evaluate(loaded, bundle, None)


def _date(text):
    from datetime import date

    return date.fromisoformat(text)


def test_older_bundle_is_evaluated_on_the_rows_of_the_pipeline(feed, bundle, tmp_path):
    """Another vocabulary, a spec that splits elsewhere and lacks a slicing feature: same holdout."""
    loaded = load_feed(feed, tmp_path)
    older = load_feed(feed, tmp_path / "older", "data.window=2d")
    fewer = [f for f in bundle.spec.features if f.name != "topic"]
    spec = bundle.spec.model_copy(update={"features": tuple(fewer)})
    champion = fake_bundle(older, sha="c" * 64)
    champion = FakeBundle(spec, FitState.load(_fit_dir(tmp_path / "older")), sha="c" * 64)
    ours, theirs = evaluate(loaded, bundle, None), evaluate(loaded, champion, None)
    assert theirs.meta["holdout_fp"] == ours.meta["holdout_fp"]
    assert theirs.meta["slices"] == ["hour"]
    assert theirs.meta["input_fp"] != ours.meta["input_fp"]


def _fit_dir(home):
    return next(home.rglob("fit.json")).parent


def test_evaluations_of_two_bundles_pass_through_the_gate(feed, bundle, tmp_path):
    loaded = load_feed(feed, tmp_path)
    sides = []
    for sha, tilt in (("a" * 64, 0.0), ("b" * 64, 0.01)):
        evaluation = evaluate(loaded, replace(bundle, sha=sha, tilt=tilt), None)
        meta = evaluation.meta
        sides.append(Contender(evaluation, sha, meta["input_fp"], meta["min_time_us"] - 1))
    tasks = evaluation.meta["tasks"]
    config = GateConfig(
        margins={t: Margins(auc=0.05) for t in tasks}, min_clusters=50, min_positives=5
    )
    decision = gate(*sides, config, first_champion=False)
    assert decision.verdict == "PROMOTE", decision.reasons
    assert [c.verdict for c in decision.checks if c.kind == "integrity"] == ["PROMOTE"] * 4
