"""Training as a stage: resume, early stop, and what may not be published."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from recsys_mtl.artifacts.manifest import is_published, open_artifact
from recsys_mtl.errors import DataError, IntegrityError, TransientError
from recsys_mtl.spec.model_config import HeadConfig
from recsys_mtl.spec.pipeline import EarlyStop, NanGuard
from recsys_mtl.training.checkpoint import Checkpoints, weight_files
from recsys_mtl.training.job import train, train_key
from recsys_mtl.training.learner import Learner
from recsys_mtl.training.validation import Validation
from tests.batches.encoded import make_rows
from tests.training.small import (
    BATCH_ROWS,
    STEPS_PER_EPOCH,
    make_loaded,
    make_shards,
    publish_shards,
    settings,
    silent,
)
from tests.training.victim import WATCHED, Counter

ROOT = Path(__file__).parents[2]
STEPS = 3 * STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("training") / "shards")


@pytest.fixture(scope="module")
def undisturbed(shards, tmp_path_factory):
    return train(make_loaded(tmp_path_factory.mktemp("undisturbed")), shards, silent)


class StopError(Exception):
    pass


def stop_at(step):
    def report(done, total, **numbers):
        if done == step:
            raise StopError

    return report


def history_of(manifest):
    return json.loads(manifest.path("history.json").read_bytes())


def output_of(home):
    return next((home / "small" / "train").glob("[0-9a-f]*"))


def spoil_batches(monkeypatch, *steps):
    """Put a NaN into the batches of these steps."""
    original, seen = Learner.step, iter(range(1, 10**6))

    def step(self, batch):
        if next(seen) in steps:
            batch.dense[0, 0] = torch.nan
        return original(self, batch)

    monkeypatch.setattr(Learner, "step", step)


def test_the_artifact_holds_weights_curves_and_lineage(undisturbed, shards):
    names = [entry.path for entry in undisturbed.files]
    tables = [f"tables/{t}.safetensors" for t in ("genre", "hour", "topic", "user", "video")]
    assert names == ["dense.safetensors", "history.json", *tables]
    history = history_of(undisturbed)
    assert [step for step, _ in history["train"]["buy"]] == [1, 21]
    assert [step for step, _ in history["valid"]["buy"]] == [5, 10, 15, 20, 25, 30]
    assert (history["steps"], history["skipped_steps"]) == (STEPS, 0)
    assert undisturbed.meta["trained_until_us"] == max(
        shards.meta["splits"][s]["max_time_us"] for s in ("train", "valid")
    )
    assert json.loads((undisturbed.dir / "timing.jsonl").read_text())["rows_per_s"] > 0
    assert not (undisturbed.dir / "ckpt").exists()


def test_heads_start_at_the_rates_of_the_training_rows(shards, tmp_path, monkeypatch):
    """`buy` at its rate among clicks, for the two are multiplied."""
    seen, original = [], Learner.first_step

    def first_step(self, batch):
        seen.extend(head.body[-1].bias.item() for head in self.model.dense_part.heads)
        return original(self, batch)

    monkeypatch.setattr(Learner, "first_step", first_step)
    loaded = make_loaded(tmp_path)
    head = HeadConfig(hidden=(4,), start="base_rate")
    loaded.pipeline.model = loaded.pipeline.model.model_copy(update={"head": head})
    train(loaded, shards, silent)
    files = [shards.path(f"part-{i}.parquet") for i in range(2)]
    rows = pd.concat([pq.read_table(path).to_pandas() for path in files])
    rows = rows[(rows["key__split"] == 0) & rows["mask__click"]]
    clicked = rows[(rows["label__click"] == 1) & rows["mask__buy"]]
    rates = [part.mean() for part in (rows["label__click"], clicked["label__buy"])]
    counts = np.array([len(rows), len(clicked)])
    smoothed = (counts * rates + 0.5) / (counts + 1)
    np.testing.assert_allclose(seen, np.log(smoothed / (1 - smoothed)), rtol=1e-6)


# In the first steps, beside evaluations and checkpoints, in the second epoch, at the end.
@pytest.mark.parametrize("step", [1, 4, 5, 7, 17, 29])
def test_a_resumed_run_ends_with_the_same_bytes(step, undisturbed, shards, tmp_path):
    loaded = make_loaded(tmp_path)
    with pytest.raises(StopError):
        train(loaded, shards, stop_at(step))
    torch.manual_seed(step)
    resumed = train(loaded, shards, silent)
    assert resumed.sha == undisturbed.sha


def test_a_run_interrupted_at_every_tenth_step_ends_with_the_same_bytes(
    undisturbed, shards, tmp_path
):
    loaded = make_loaded(tmp_path)
    for step in (9, 19, 29):
        with pytest.raises(StopError):
            train(loaded, shards, stop_at(step))
    assert train(loaded, shards, silent).sha == undisturbed.sha


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(undisturbed, shards, tmp_path, monkeypatch):
    counter = Counter()
    with monkeypatch.context() as patch:
        for owner, name in WATCHED:
            patch.setattr(owner, name, counter.wrap(getattr(owner, name)))
        train(make_loaded(tmp_path / "counted"), shards, silent)
    for kill_at in random.Random(2).sample(range(1, counter.calls + 1), 3):
        home = tmp_path / str(kill_at)
        command = [sys.executable, "-m", "tests.training.victim", home, shards.dir, str(kill_at)]
        killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert train(make_loaded(home), shards, silent).sha == undisturbed.sha, kill_at


def test_sigterm_writes_a_checkpoint_and_the_rerun_goes_on(undisturbed, shards, tmp_path):
    loaded, handler = make_loaded(tmp_path), signal.getsignal(signal.SIGTERM)

    def report(done, total, **numbers):
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TransientError, match="asked to stop at step 7") as stopped:
        train(loaded, shards, report)
    assert stopped.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is handler
    assert is_published(output_of(tmp_path) / "ckpt" / "step-00000007")
    steps = []
    again = train(loaded, shards, lambda done, total, **numbers: steps.append(done))
    assert steps == list(range(8, STEPS + 1))
    assert again.sha == undisturbed.sha


def test_a_published_result_is_returned_and_leftovers_go(shards, tmp_path):
    loaded = make_loaded(tmp_path, epochs=1)
    first = train(loaded, shards, silent)
    (first.dir / "ckpt" / "step-00000004").mkdir(parents=True)
    assert train(loaded, shards, stop_at(1)) == first
    assert not (first.dir / "ckpt").exists()


def test_from_scratch_drops_the_checkpoints(undisturbed, shards, tmp_path):
    loaded = make_loaded(tmp_path)
    with pytest.raises(StopError):
        train(loaded, shards, stop_at(9))
    for path in (output_of(tmp_path) / "ckpt").rglob("dense.safetensors"):
        path.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="none of 2 checkpoints verifies") as refused:
        train(loaded, shards, silent)
    assert refused.value.exit_code == 5
    assert train(loaded, shards, silent, from_scratch=True).sha == undisturbed.sha


def test_early_stop_keeps_the_best_weights(shards, tmp_path, monkeypatch):
    kept = {}
    original = Checkpoints.save_best

    def save_best(self, learner, step):
        original(self, learner, step)
        kept[step] = weight_files(learner, tmp_path / f"copy-{step}")

    monkeypatch.setattr(Checkpoints, "save_best", save_best)
    early_stop = EarlyStop(every_steps=2, patience=3)
    loaded = make_loaded(tmp_path, epochs=30, dropout=0.0, early_stop=early_stop)
    trained = train(loaded, shards, silent)
    history = history_of(trained)
    totals = [
        (click[1] + buy[1], click[0]) for click, buy in zip(*history["valid"].values(), strict=True)
    ]
    best = min(totals)[1]
    assert trained.meta["best_step"] == history["best_step"] == best == max(kept)
    # Labels are noise, so it overfits: three evaluations after the best one it ends.
    assert history["steps"] == best + 6 < 30 * STEPS_PER_EPOCH
    copied = {entry.path: entry.sha256 for entry in kept[best]}
    assert copied == {e.path: e.sha256 for e in trained.files if e.path != "history.json"}
    weights = load_file(trained.path("tables/user.safetensors"))["weight"]
    assert weights.shape == (loaded.layout.tables["user"].num_embeddings, 4)


def test_patience_starts_anew_at_every_improvement(shards, tmp_path, monkeypatch):
    totals = iter([1.0, 2.0, 0.5, 0.6, 0.7, 0.1])

    def validate(learner, shards, weights):
        return Validation({"click": 1.0, "buy": 1.0}, {"click": 0.5, "buy": None}, next(totals))

    monkeypatch.setattr("recsys_mtl.training.loop.validate", validate)
    loaded = make_loaded(tmp_path, early_stop=EarlyStop(every_steps=2, patience=2))
    history = history_of(train(loaded, shards, silent))
    assert (history["best_step"], history["steps"]) == (6, 10)
    assert history["valid_auc"]["buy"] == [[step, None] for step in (2, 4, 6, 8, 10)]


def test_an_equal_loss_is_no_improvement(shards, tmp_path, monkeypatch):
    equal = Validation({"click": 1.0, "buy": 1.0}, {"click": None, "buy": None}, 2.0)
    monkeypatch.setattr("recsys_mtl.training.loop.validate", lambda *_: equal)
    loaded = make_loaded(tmp_path, early_stop=EarlyStop(every_steps=2, patience=2))
    history = history_of(train(loaded, shards, silent))
    assert (history["best_step"], history["steps"]) == (2, 6)


def test_a_validation_loss_that_is_not_finite_is_refused(shards, tmp_path, monkeypatch):
    lost = Validation({"click": math.nan, "buy": 1.0}, {"click": None, "buy": None}, math.nan)
    monkeypatch.setattr("recsys_mtl.training.loop.validate", lambda *_: lost)
    with pytest.raises(IntegrityError, match="validation loss at step 5 is not finite"):
        train(make_loaded(tmp_path), shards, silent)
    assert not list(output_of(tmp_path).glob("ckpt/best-*"))


def test_rates_fall_linearly_to_a_twentieth(shards, tmp_path, monkeypatch):
    shares = []
    original = Learner.scale_rates

    def scale_rates(self, share):
        shares.append(share)
        original(self, share)

    monkeypatch.setattr(Learner, "scale_rates", scale_rates)
    train(make_loaded(tmp_path, epochs=2), shards, silent)
    assert len(shares) == 20
    assert shares[0] == 1.0 and shares[10] == pytest.approx(0.525)
    assert shares[19] == pytest.approx(0.05 + 0.95 / 20)


def test_skipped_steps_are_counted_and_logged(shards, tmp_path, monkeypatch, caplog):
    spoil_batches(monkeypatch, 1, 6)
    history = history_of(train(make_loaded(tmp_path, epochs=1), shards, silent))
    assert (history["steps"], history["skipped_steps"]) == (STEPS_PER_EPOCH, 2)
    assert "step=1" in caplog.text and "step=6" in caplog.text
    assert history["train"] == {}


def test_the_move_of_the_tables_is_checked_at_the_first_step_that_counts(
    shards, tmp_path, monkeypatch
):
    spoil_batches(monkeypatch, 1)
    still = {table: torch.zeros(1) for table in make_loaded(tmp_path).layout.tables}
    monkeypatch.setattr("recsys_mtl.training.learner.plain_state", lambda tables: still)
    with pytest.raises(IntegrityError, match="did not move in the first step"):
        train(make_loaded(tmp_path), shards, silent)


def test_too_many_skips_end_with_exit_5_and_the_keys_of_the_batch(shards, tmp_path, monkeypatch):
    spoil_batches(monkeypatch, 2, 4, 6)
    guard = NanGuard(max_skipped=2, per_steps=100)
    with pytest.raises(IntegrityError, match="3 of the last 100 steps .* step 6") as ended:
        train(make_loaded(tmp_path, nan_guard=guard), shards, silent)
    assert ended.value.exit_code == 5
    dumped = pq.read_table(output_of(tmp_path) / "_not-finite-00000006.parquet")
    assert dumped.column_names == ["row_id", "group", "time_us", "step"]
    assert dumped.num_rows == BATCH_ROWS and set(dumped["step"].to_pylist()) == {6}
    all_rows = {r["key__row_id"]: r for r in make_rows(190).to_pylist()}
    for row in dumped.to_pylist():
        assert row["time_us"] == all_rows[row["row_id"]]["key__time"]
    assert not is_published(output_of(tmp_path))


def test_skips_before_a_kill_still_count(shards, tmp_path, monkeypatch):
    loaded = make_loaded(tmp_path, nan_guard=NanGuard(max_skipped=1, per_steps=100))
    with monkeypatch.context() as patch, pytest.raises(StopError):
        spoil_batches(patch, 2)
        train(loaded, shards, stop_at(9))
    spoil_batches(monkeypatch, 1)
    with pytest.raises(IntegrityError, match="2 of the last 100 steps"):
        train(loaded, shards, silent)


@pytest.mark.parametrize(("num_train", "num_valid", "found"), [(60, 0, "valid"), (0, 60, "train")])
def test_an_empty_split_is_named(tmp_path, num_train, num_valid, found):
    empty = make_shards(tmp_path / "shards", num_train, num_valid)
    with pytest.raises(DataError, match=f"no {found} rows .*training needs both") as refused:
        train(make_loaded(tmp_path / "home"), empty, silent)
    assert refused.value.exit_code == 3


def test_the_key_follows_shards_and_training_only(shards, tmp_path):
    loaded, key = make_loaded(tmp_path), train_key(make_loaded(tmp_path), shards)
    loaded.pipeline.name = "other"
    assert train_key(loaded, shards) == key
    loaded.pipeline.training = settings(seed=6)
    assert train_key(loaded, shards) != key
    other = publish_shards(tmp_path / "other", make_rows(20))
    assert train_key(make_loaded(tmp_path), other) != key


def test_progress_tells_speed_time_left_and_losses(shards, tmp_path):
    lines = []

    def report(done, total, **numbers):
        lines.append((done, total, numbers))

    train(make_loaded(tmp_path, epochs=1), shards, report)
    assert [(done, total) for done, total, _ in lines] == [(i, 10) for i in range(1, 11)]
    assert set(lines[-1][2]) == {"rows_per_s", "left_s", "click", "buy"}
    assert lines[-1][2]["rows_per_s"] > 0 and lines[-1][2]["left_s"] == 0


def test_a_damaged_result_is_refused(shards, tmp_path):
    loaded = make_loaded(tmp_path, epochs=1)
    path = train(loaded, shards, silent).path("tables/hour.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="hour"):
        train(loaded, shards, silent)
    assert not (open_artifact(path.parents[1], verify=False).dir / "ckpt").exists()
