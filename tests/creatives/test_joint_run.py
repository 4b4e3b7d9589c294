"""Clicks and stops trained together, from delivery logs to decisions' input."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.embeddings.state import plain_state
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.errors import IntegrityError
from recsys_mtl.models.heads.hazard import daily_hazards
from recsys_mtl.objectives.hazard import exposures
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.read_outs import CURVE_DAYS, curve_column, stop_column
from recsys_mtl.scoring.creatives import score_creatives
from recsys_mtl.training import loop
from recsys_mtl.training.job import open_shards, train_key
from recsys_mtl.training.learner import Learner

from .conftest import open_job


@pytest.fixture(scope="module")
def bundle(job):
    return load_bundle(job.bundle.dir)


@pytest.fixture(scope="module")
def scores(job, bundle):
    return score_creatives(job.loaded, bundle, "1", job.landmarks)


@pytest.fixture(scope="module")
def shards(job):
    return open_shards(job.loaded, job.ingested, job.creatives)


def test_both_tasks_learn(job):
    valid = job.history["valid"]
    assert set(valid) == {"click", "stop"}
    assert set(job.history["valid_auc"]) == {"click"}
    train = [loss for _, loss in job.history["train"]["stop"]]
    assert np.isfinite(train).all()
    assert job.history["valid_auc"]["click"][-1][1] > 0.58


def test_an_ad_level_batch_trains_the_tables_that_both_read(job, shards):
    loaded = job.loaded
    batch = next(shards.second.batches("train", 4096))
    learner = Learner(loaded.pipeline, loaded.layout)
    before = plain_state(learner.tables)
    step = learner.step(batch)
    after = plain_state(learner.tables)
    assert step.losses[0] == 0
    assert step.losses[1] > 0
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"word", "genre", "volume"} <= moved
    read = {n for n in moved if not torch.equal(before[n][1:], after[n][1:])}
    assert not read & {"hour", "advertiser"}


def test_a_batch_of_clicks_looks_no_history_up(job, shards):
    batch = next(shards.first.batches("valid", 64))
    embeddings = Embeddings(job.loaded.layout)
    whole = embeddings(batch)
    embeddings.sequence_bags.forward = None
    found = embeddings(batch)
    (sequence,) = found.sequences.values()
    assert len(batch.labels) == 64
    assert sequence.mask.shape == (64, 1) and not sequence.mask.any()
    assert {x.shape for x in sequence.fields.values()} == {(64, 1, 4)}
    assert not any(x.any() for x in sequence.fields.values())
    for name, pooled in whole.bags.items():
        torch.testing.assert_close(found.bags[name], pooled, rtol=0, atol=0)
    other = next(shards.second.batches("valid", 64))
    with pytest.raises(TypeError):
        embeddings(other)


def test_the_head_of_stops_does_not_run_on_clicks(job, shards):
    click, stop = (next(own.batches("valid", 64)) for own in (shards.first, shards.second))
    learner = Learner(job.loaded.pipeline, job.loaded.layout)
    learner.model.dense_part.hazard.forward = None
    losses, present = learner.losses(click)
    assert present.tolist() == [True, False]
    assert losses[0] > 0 and losses[1] == 0
    with pytest.raises(TypeError):
        learner.losses(stop)


def test_the_model_expects_as_many_stops_among_training_rows_as_there_were(job, bundle):
    """Training weighs rows; the mean hazard of each interval is that of rows that count alike."""
    files = [e.path for e in job.creatives.files if e.path.startswith("part-")]
    tables = [read_table(job.creatives.dir / f) for f in files if f.endswith(".parquet")]
    rows = pa.concat_tables(tables)
    rows = rows.filter(pa.compute.equal(rows["key__split"], 0))
    columns = [f"survival__stop__{part}" for part in ("entry", "exit", "event")]
    times = [torch.tensor(rows[name].to_numpy()).long() for name in columns]
    edges = torch.tensor(job.loaded.pipeline.model.hazard.edges)
    days, events = exposures(*times, edges, 2)
    expected = (days[:, None] * daily_hazards(bundle.hazards(rows))).sum(0)
    stops = events.sum(0)
    assert (stops >= 20).sum() > 5
    torch.testing.assert_close(expected[stops >= 20], stops[stops >= 20], rtol=0, atol=0.2)


def test_of_many_rows_the_refit_reads_the_same_sample_for_each_step(ads, tmp_path, monkeypatch):
    seen = []

    def refit_hazards(self, batches):
        drawn = [[row for batch in batches() for row in batch.row_id.to_pylist()] for _ in range(2)]
        assert drawn[0] == drawn[1]
        seen.append(drawn[0])

    monkeypatch.setattr(Learner, "refit_hazards", refit_hazards)
    monkeypatch.setattr(loop, "SURVIVAL_ROWS", 20)
    monkeypatch.setattr(loop, "_REFIT_BATCHES", 3)
    job = open_job(ads, tmp_path, "training.epochs=2")
    assert job.history["steps"] > 0
    first, second = seen
    assert first == second
    assert len(set(first)) == 60


def test_another_size_of_ad_level_batches_is_another_training(ads, job, tmp_path):
    keys = {
        train_key(open_job(ads, tmp_path, flag).loaded, job.ingested, job.creatives)
        for flag in ("creatives.batch_rows=32", "creatives.batch_rows=128")
    }
    assert len(keys) == 2


def test_read_outs_are_probabilities_that_fit_together(scores):
    rows = read_table(scores.path("creatives.parquet")).to_pandas()
    week, three = (rows[stop_column("stop", days)] for days in (7, 3))
    assert ((three > 0) & (three <= week) & (week < 1)).all()
    for days, total in ((3, three), (7, week)):
        causes = [rows[stop_column("stop", days, c)] for c in ("cut_out", "wear_out")]
        np.testing.assert_allclose(sum(causes), total, atol=1e-9)
        np.testing.assert_allclose(1 - rows[curve_column("stop", days)], total, atol=1e-9)
    curve = rows[[curve_column("stop", days) for days in CURVE_DAYS]].to_numpy()
    assert (np.diff(curve, axis=1) <= 0).all()
    assert (rows["stop__days"] >= 1 - 1e-9).all()
    assert (rows["age"] == rows["landmark"] - 1).all()


def test_scores_are_published_once(job, bundle, scores):
    again = score_creatives(job.loaded, bundle, "1", job.landmarks)
    assert again.sha == scores.sha
    assert score_creatives(job.loaded, bundle, "2", job.landmarks).sha != scores.sha


def test_the_evaluation_counts_stops_by_cause_and_age(job):
    evaluation = job.survival_evaluated
    report = json.loads(evaluation.path("survival.json").read_text())
    predictions = read_table(evaluation.path("predictions.parquet"))
    assert report["rows"] == predictions.num_rows
    observed = sum(cell["observed"] for cell in report["observed_over_expected"])
    assert observed == report["stops"] == int((predictions["event"].to_numpy() > 0).sum())
    late = [c for c in report["observed_over_expected"] if c["from_day"] >= 10]
    assert all(c["observed"] == 0 for c in late if c["cause"] == "cut_out")
    assert 0.6 < report["concordance"]["1"]["value"] < 1
    assert report["nll"]["value"] == pytest.approx(predictions["nll"].to_numpy().mean())


def test_changed_weights_fail_on_the_golden_hazards(job, tmp_path, bundle):
    import shutil

    from safetensors.torch import load_file, save_file

    from recsys_mtl.artifacts.commit import entry_of
    from recsys_mtl.artifacts.manifest import publish

    copy = shutil.copytree(job.bundle.dir, tmp_path / "bundle")
    weights = load_file(copy / "dense.safetensors")
    name = next(n for n in weights if n.startswith("hazard.") and n.endswith("bias"))
    weights[name] += 0.01
    save_file(weights, copy / "dense.safetensors")
    meta = open_artifact(job.bundle.dir).meta
    files = [entry_of(copy / e.path, copy, e.rows) for e in job.bundle.files]
    (copy / "MANIFEST.json").unlink()
    publish(copy, files, meta)
    with pytest.raises(IntegrityError, match="golden hazards are"):
        load_bundle(copy)


def test_a_rerun_gives_the_same_weights(job, ads, tmp_path):
    again = open_job(ads, tmp_path)
    assert again.creatives.sha == job.creatives.sha
    first, second = (
        {e.path: e.sha256 for e in manifest.files} for manifest in (job.trained, again.trained)
    )
    assert first == second
