"""Checkpoints on disk."""

import shutil
from collections import namedtuple

import pytest
import torch

from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.errors import IntegrityError, TransientError
from recsys_mtl.training.checkpoint import Checkpoints, Progress, weight_files
from tests.batches.encoded import make_batch
from tests.training.small import changed, make_learner, state_of

STEPS = 4
CURVES = {
    "train": {"click": [[1, 0.1 + 0.2]]},
    "valid": {"click": [[2, 1 / 3]]},
    "valid_auc": {"click": [[2, None]]},
}


@pytest.fixture
def saved(tmp_path):
    """Checkpoints after steps 1 to 4, the state after each; step 2 is the best."""
    checkpoints, learner, states = Checkpoints(tmp_path, keep=3), make_learner(), {}
    for step in range(1, STEPS + 1):
        learner.step(make_batch(16, seed=step))
        if step == 2:
            checkpoints.save_best(learner, step)
        best = 2 if step >= 2 else None
        checkpoints.save(learner, Progress(step=step, best_step=best))
        states[step] = state_of(learner)
    return checkpoints, states


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path):
    learner, continued = make_learner(dropout=0.5), make_learner(dropout=0.5, seed=6)
    for seed in range(3):
        learner.step(make_batch(16, seed))
    progress = Progress(3, 2, 1 / 3, 1, [1], 1, **CURVES)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save_best(learner, 2)
    checkpoints.save(learner, progress)
    learner.step(make_batch(16, 3))
    torch.manual_seed(99)
    assert checkpoints.load(continued) == progress
    continued.step(make_batch(16, 3))
    assert changed(state_of(learner), state_of(continued)) == []


def test_the_older_are_pruned_and_the_best_weights_stay(saved, tmp_path):
    assert names(tmp_path) == ["best-00000002", *(f"step-{i:08d}" for i in (2, 3, 4))]


def test_a_best_that_no_kept_checkpoint_counts_on_is_pruned(saved, tmp_path):
    checkpoints, _ = saved
    learner = make_learner()
    checkpoints.save_best(learner, 5)
    for step in (5, 6, 7):
        checkpoints.save(learner, Progress(step=step, best_step=5))
    assert names(tmp_path) == ["best-00000005", *(f"step-{i:08d}" for i in (5, 6, 7))]


@pytest.mark.parametrize("name", ["dense.safetensors", "sharded/.metadata", "progress.json"])
def test_a_flipped_bit_falls_back_to_the_checkpoint_before(saved, tmp_path, name, caplog):
    _, states = saved
    damage(tmp_path / "step-00000004" / name)
    learner = make_learner()
    assert Checkpoints(tmp_path, keep=3).load(learner).step == 3
    assert changed(states[3], state_of(learner)) == []
    assert f"step-00000004/{name}" in caplog.text and "refused" in caplog.text


def test_a_refused_checkpoint_does_not_push_out_a_good_one(saved, tmp_path):
    damage(tmp_path / "step-00000004" / "dense.safetensors")
    checkpoints, learner = Checkpoints(tmp_path, keep=2), make_learner()
    checkpoints.load(learner)
    learner.step(make_batch(16, seed=4))
    checkpoints.save(learner, Progress(step=4, best_step=2))
    assert names(tmp_path) == [
        "best-00000002",
        "refused-step-00000004",
        "step-00000003",
        "step-00000004",
    ]
    assert Checkpoints(tmp_path, keep=2).load(make_learner()).step == 4


def test_damaged_best_weights_are_made_again_from_a_checkpoint_before_them(saved, tmp_path):
    # A checkpoint of step 1, before the best; keep=3 had pruned it.
    learner = make_learner()
    learner.step(make_batch(16, seed=1))
    early = Checkpoints(tmp_path, keep=9)
    early.save(learner, Progress(step=1))
    damage(tmp_path / "best-00000002" / "dense.safetensors")
    checkpoints, resumed = Checkpoints(tmp_path, keep=2), make_learner()
    assert checkpoints.load(resumed).step == 1
    resumed.step(make_batch(16, seed=2))
    checkpoints.save_best(resumed, 2)
    open_artifact(checkpoints.best_weights(2))


def test_a_checkpoint_without_its_best_weights_is_refused(saved, tmp_path, caplog):
    checkpoints, _ = saved
    shutil.rmtree(tmp_path / "best-00000002")
    with pytest.raises(IntegrityError, match="none of 3"):
        checkpoints.load(make_learner())
    assert "best-00000002" in caplog.text


def test_no_valid_checkpoint_is_an_error_and_touches_nothing(saved, tmp_path):
    for step in (2, 3, 4):
        damage(tmp_path / f"step-{step:08d}" / "dense.safetensors")
    before, learner = names(tmp_path), make_learner()
    fresh = state_of(learner)
    with pytest.raises(IntegrityError, match="none of 3 checkpoints verifies"):
        Checkpoints(tmp_path, keep=3).load(learner)
    assert names(tmp_path) == before
    assert changed(fresh, state_of(learner)) == []


def spoil_dense(learner):
    next(learner.model.dense_part.parameters()).data.view(-1)[0] = torch.nan


def spoil_table(learner):
    learner.tables.state_dict()["bags.embedding_bags.user.weight"].local_shards()[0].tensor[
        3, 1
    ] = torch.inf


def spoil_fused(learner):
    state = learner.fused.state_dict()["state"]["bags.embedding_bags.hour.weight"]
    state["hour.momentum1"].local_shards()[0].tensor[2] = torch.nan


def spoil_moment(learner):
    moments = next(iter(learner.dense.state.values()))
    moments["exp_avg_sq"].view(-1)[0] = torch.inf


@pytest.mark.parametrize("spoil", [spoil_dense, spoil_table, spoil_fused, spoil_moment])
def test_what_is_not_finite_is_never_a_checkpoint(saved, tmp_path, spoil):
    checkpoints, _ = saved
    learner = make_learner()
    learner.step(make_batch(16))
    spoil(learner)
    before = names(tmp_path)
    with pytest.raises(IntegrityError, match="not finite"):
        checkpoints.save(learner, Progress(step=5))
    assert names(tmp_path) == before


@pytest.mark.parametrize("spoil", [spoil_dense, spoil_table])
def test_what_is_not_finite_is_never_exported(tmp_path, spoil):
    learner = make_learner()
    spoil(learner)
    with pytest.raises(IntegrityError, match="not finite"):
        weight_files(learner, tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_is_noticed_before_anything_is_written(saved, tmp_path, monkeypatch):
    checkpoints, _ = saved
    before = names(tmp_path)
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TransientError, match=r"0 MiB are free.*Free space, then rerun"):
        checkpoints.save(make_learner(), Progress(step=5))
    assert names(tmp_path) == before


def test_leftovers_of_a_killed_write_are_removed(saved, tmp_path):
    checkpoints, _ = saved
    leftover = tmp_path / ".step-00000005.0123"
    leftover.mkdir()
    checkpoints.save(make_learner(), Progress(step=5, best_step=2))
    assert not leftover.exists()
