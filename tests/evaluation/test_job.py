import json
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.manifest import is_published
from recsys_mtl.errors import ConfigError, DataError, IntegrityError
from recsys_mtl.evaluation import job
from recsys_mtl.evaluation.job import evaluate, holdout_fp
from recsys_mtl.registry.gate import gate
from recsys_mtl.registry.holdout import Contender
from recsys_mtl.registry.predictions import read_predictions
from recsys_mtl.spec.pipeline import GateConfig, Margins

from .feed import WORLD, load_feed, make_bundle

DAY = 86_400_000_000


def files_of(manifest):
    return {entry.path: manifest.path(entry.path).read_bytes() for entry in manifest.files}


def read(manifest, name):
    return json.loads(manifest.path(name).read_bytes())


def nothing_published(home):
    return not any(is_published(path) for path in home.rglob("*") if path.is_dir())


class Killed(BaseException):
    """A kill that no handler of expected failures sees."""


class Predicting:
    """A bundle whose predictions pass through `change`, in this process."""

    def __init__(self, bundle, change):
        self._bundle, self._change = bundle, change

    def __getattr__(self, name):
        return getattr(self._bundle, name)

    def predict(self, encoded):
        return self._change(self._bundle.predict(encoded))


def test_exactly_the_test_rows_are_predicted_once(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    raw = pq.read_table(feed / "impressions" / "2026-03-05.parquet")
    rows = read_predictions(manifest)
    assert sorted(rows["row_id"].to_pylist()) == raw["impression_id"].to_pylist()
    assert manifest.meta["rows"] == WORLD.rows_per_day
    assert manifest.meta["min_time_us"] >= manifest.meta["interval"]["end_us"] - DAY
    bought = dict(
        zip(raw["impression_id"].to_pylist(), raw["is_purchase"].to_pylist(), strict=True)
    )
    assert rows["label__purchase"].to_pylist() == [bought[i] for i in rows["row_id"].to_pylist()]


def test_slice_values_stay_with_their_rows_when_a_shard_is_cut(feed, bundle, tmp_path):
    """The test window starts at noon, inside a shard."""
    manifest = evaluate(load_feed(feed, tmp_path, "split.test=12h"), bundle, None)
    rows = read_predictions(manifest).sort_by("row_id")
    raw = pq.read_table(feed / "impressions" / "2026-03-05.parquet").sort_by("impression_id")
    raw = raw.slice(raw.num_rows - rows.num_rows)
    assert 0 < rows.num_rows < WORLD.rows_per_day
    assert rows["row_id"].to_pylist() == raw["impression_id"].to_pylist()
    assert rows["slice__hour"].to_pylist() == [str(hour) for hour in raw["hour"].to_pylist()]


def test_fingerprint_of_the_holdout_sees_rows_and_labels_but_no_predictions():
    rows = pa.table(
        {
            "row_id": ["a", "b"],
            "group": [1, 2],
            "time": [5, 6],
            "p__x": [0.1, 0.2],
            "label__x": [0.0, 1.0],
            "mask__x": [True, True],
        }
    )
    others = {"row_id": ["a", "c"], "group": [1, 3], "time": [5, 7], "label__x": [1.0, 1.0]}
    others |= {"mask__x": [True, False], "p__x": [0.3, 0.4]}
    for position, name in enumerate(rows.column_names):
        changed = rows.set_column(position, name, pa.array(others[name]))
        assert (holdout_fp(changed) == holdout_fp(rows)) == (name == "p__x"), name


def test_only_shards_of_the_test_window_are_read(feed, bundle, tmp_path):
    seen = []
    loaded = load_feed(feed, tmp_path)
    evaluate(loaded, bundle, None, lambda done, total, **numbers: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_metrics_are_those_of_the_predictions_files(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    metrics, rows = read(manifest, "metrics.json"), read_predictions(manifest)
    ratio = metrics["tasks"]["click"]["calibration_ratio"]["value"]
    assert ratio == rows["p__click"].to_numpy().sum() / rows["label__click"].to_numpy().sum()
    topics = metrics["slices"]["topic"]
    sizes = [topic["click"]["auc"]["n"] for topic in topics.values()]
    assert sum(sizes) == WORLD.rows_per_day and sizes == sorted(sizes, reverse=True)
    assert set(read(manifest, "calibration.json")) == set(metrics["tasks"])


def test_oracle_is_reported_where_there_is_one(feed, bundle, tmp_path):
    manifest = evaluate(load_feed(feed, tmp_path), bundle, None)
    for task in read(manifest, "oracle.json").values():
        assert task["regret"] == task["oracle_auc"] - task["expected_auc"] > 0
    without = evaluate(load_feed(feed, tmp_path, "evaluation.oracle=null"), bundle, None)
    assert "oracle.json" not in files_of(without)


def test_a_finished_evaluation_is_returned(feed, bundle, tmp_path):
    loaded = load_feed(feed, tmp_path)
    first = evaluate(loaded, bundle, None)
    written = first.path("metrics.json").stat().st_mtime_ns
    again = evaluate(loaded, bundle, None)
    assert (again.dir, again.sha) == (first.dir, first.sha)
    assert again.path("metrics.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("setting", ["split.test=2d", "evaluation.max_slices=2"])
def test_another_setting_is_another_evaluation(feed, bundle, tmp_path, setting):
    first = evaluate(load_feed(feed, tmp_path), bundle, None)
    assert evaluate(load_feed(feed, tmp_path, setting), bundle, None).dir != first.dir


@pytest.mark.slow
def test_workers_write_the_same_bytes(feed, bundle, tmp_path):
    one = evaluate(load_feed(feed, tmp_path / "1"), bundle, None)
    two = evaluate(load_feed(feed, tmp_path / "2", "ingest.workers=2"), bundle, None)
    assert files_of(one) == files_of(two)
    assert one.sha == two.sha


@pytest.mark.parametrize("at", [1, 2, 3, None])
def test_rerun_after_a_kill_writes_the_same_bytes(feed, bundle, tmp_path, monkeypatch, at):
    """Killed while predicting shard 1, 2 or 3, or before publishing."""
    straight = evaluate(load_feed(feed, tmp_path / "1"), bundle, None)
    loaded, predicted = load_feed(feed, tmp_path / "2"), []

    def dying(probs):
        predicted.append(len(probs))
        if len(predicted) == at:
            raise Killed
        return probs

    monkeypatch.setattr(job, "loaded_bundle", lambda *_: Predicting(bundle, dying))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at is None:
            patch.setattr(job, "publish", lambda *_: dying_now())
        evaluate(loaded, bundle, None)
    assert nothing_published(tmp_path / "2")
    resumed = evaluate(loaded, bundle, None)
    assert files_of(resumed) == files_of(straight)
    assert resumed.sha == straight.sha
    assert len(predicted) == 3 + (at is not None)


def dying_now():
    raise Killed


@pytest.mark.parametrize("value", [np.nan, 1.5])
def test_model_that_predicts_no_probability_publishes_nothing(
    feed, bundle, tmp_path, monkeypatch, value
):
    broken = Predicting(bundle, lambda probs: np.full_like(probs, value))
    monkeypatch.setattr(job, "loaded_bundle", lambda *_: broken)
    with pytest.raises(IntegrityError, match=r"values of 'click' that are no probabilities"):
        evaluate(load_feed(feed, tmp_path), bundle, None)
    assert nothing_published(tmp_path)


def test_bundle_of_another_source_is_refused(feed, bundle, tmp_path):
    with pytest.raises(ConfigError, match="the bundle predicts 'ads'"):
        evaluate(load_feed(feed, tmp_path), replace(bundle, sources=("ads",)), None)


def split_from_spec(loaded, test_from):
    """The pipeline without a split of its own; its spec's test window starts at this day."""
    split = loaded.spec.split.model_copy(
        update={"valid_from": date(2026, 3, 3), "test_from": date.fromisoformat(test_from)}
    )
    spec = loaded.spec.model_copy(update={"split": split})
    pipeline = loaded.pipeline.model_copy(update={"split": None})
    return replace(loaded, spec=spec, pipeline=pipeline)


def test_window_without_test_rows_is_refused(feed, bundle, tmp_path):
    with pytest.raises(DataError, match="there are none to evaluate on"):
        evaluate(split_from_spec(load_feed(feed, tmp_path), "2027-01-01"), bundle, None)


def test_holdout_is_the_pipelines_not_the_bundles(feed, bundle, tmp_path):
    """The bundle's spec says test from 9 March on, the pipeline's from 4 March on."""
    loaded = split_from_spec(load_feed(feed, tmp_path), "2026-03-04")
    assert bundle.spec.split.test_from != loaded.spec.split.test_from
    manifest = evaluate(loaded, bundle, None)
    assert manifest.meta["rows"] == 2 * WORLD.rows_per_day


@pytest.mark.slow
def test_older_champion_is_evaluated_on_the_same_rows(feed, bundle, tmp_path, caplog):
    """Another vocabulary, and a spec without one of the slicing features."""
    older = load_feed(feed, tmp_path / "older", "data.window=3d")
    fewer = tuple(f for f in older.spec.features if f.name != "topic")
    older = replace(older, spec=older.spec.model_copy(update={"features": fewer}))
    loaded, champion = load_feed(feed, tmp_path), make_bundle(older)
    ours, theirs = evaluate(loaded, bundle, None), evaluate(loaded, champion, None)
    assert theirs.meta["holdout_fp"] == ours.meta["holdout_fp"]
    assert theirs.meta["slices"] == ["hour"]
    assert "not sliced by topic" in caplog.text
    assert theirs.meta["input_fp"] == champion.lineage["input_fp"] != ours.meta["input_fp"]


def test_an_evaluation_passes_through_the_gate(feed, bundle, tmp_path):
    evaluation = evaluate(load_feed(feed, tmp_path), bundle, None)
    lineage = bundle.lineage
    side = Contender(evaluation, bundle.sha, lineage["input_fp"], lineage["trained_until_us"])
    margins = {task: Margins(auc=0.05) for task in evaluation.meta["tasks"]}
    config = GateConfig(margins=margins, min_clusters=50, min_positives=5)
    decision = gate(side, side, config, first_champion=False)
    assert decision.verdict == "PROMOTE", decision.reasons
    assert [c.verdict for c in decision.checks if c.kind == "integrity"] == ["PROMOTE"] * 4
