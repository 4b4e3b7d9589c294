"""Training: resume, guards, early stop, checkpoints."""

import json

import numpy as np
import pytest
import torch

from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.embeddings.state import plain_state
from recsys_mtl.errors import IntegrityError, TransientError
from recsys_mtl.ingest.job import ingest, silent
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.spec.pipeline import NanGuard
from recsys_mtl.training.checkpoint import Checkpoints, Progress, weight_files
from recsys_mtl.training.guards import SkipBudget
from recsys_mtl.training.job import train
from recsys_mtl.training.learner import Learner
from tests.conftest import write_pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory, feed):
    loaded = load_pipeline(write_pipeline(tmp_path_factory.mktemp("training"), feed))
    return loaded, ingest(loaded, None)


def batches(world, count):
    loaded, ingested = world
    shards = EncodedShards(ingested, loaded.layout)
    found = shards.batches("train", 256, shuffle=Shuffle(1, 0))
    return [next(found) for _ in range(count)]


def learner(world):
    loaded, _ = world
    torch.manual_seed(0)
    return Learner(loaded.pipeline, loaded.layout)


def weights(trained):
    dense = {f"dense.{k}": v for k, v in trained.model.dense_part.state_dict().items()}
    return {k: v.clone() for k, v in {**dense, **plain_state(trained.tables)}.items()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def replace(batch, **fields):
    values = {name: getattr(batch, name) for name in batch.__slots__}
    return type(batch)(**{**values, **fields})


def poisoned_losses(monkeypatch, trained, bad):
    original = trained.losses

    def losses(batch):
        found, present = original(batch)
        return (found * torch.nan if batch is bad else found), present

    monkeypatch.setattr(trained, "losses", losses)


def test_a_batch_with_a_nan_input_leaves_no_trace(world):
    first, bad, last = batches(world, 3)
    bad = replace(bad, dense=torch.full_like(bad.dense, torch.nan))
    with_it, without = learner(world), learner(world)
    assert [with_it.step(b).was_skipped for b in (first, bad, last)] == [False, True, False]
    for batch in (first, last):
        without.step(batch)
    assert_equal(weights(with_it), weights(without))


def test_a_nan_loss_leaves_no_trace(world, monkeypatch):
    first, bad, last = batches(world, 3)
    with_it, without = learner(world), learner(world)
    poisoned_losses(monkeypatch, with_it, bad)
    assert [with_it.step(b).was_skipped for b in (first, bad, last)] == [False, True, False]
    for batch in (first, last):
        without.step(batch)
    assert_equal(weights(with_it), weights(without))


def test_a_nan_gradient_moves_neither_tables_nor_dense_weights(world, monkeypatch):
    """The loss is finite; only its derivative is not, as with sqrt at 0 under a where."""
    first, bad = batches(world, 2)
    trained = learner(world)
    trained.step(first)
    before = weights(trained)
    original = trained.losses

    def losses(batch):
        found, present = original(batch)
        zero = found.sum() * 0
        return found + torch.where(torch.tensor(False), zero.sqrt(), 0.0), present

    monkeypatch.setattr(trained, "losses", losses)
    result = trained.step(bad)
    assert result.was_skipped and torch.isfinite(result.losses).all()
    assert_equal(weights(trained), before)


def test_a_second_backward_raises_before_a_table_moves(world):
    (batch,) = batches(world, 1)
    trained = learner(world)
    losses, _ = trained.losses(batch)
    with trained.guard.sanctioned():
        losses.sum().backward(retain_graph=True)
    before = plain_state(trained.tables)
    with pytest.raises(RuntimeError, match="outside the training step"):
        losses.sum().backward(retain_graph=True)
    with trained.guard.sanctioned(), pytest.raises(RuntimeError, match="one backward per step"):
        losses[0].backward(retain_graph=True)
    assert_equal(plain_state(trained.tables), before)


def test_the_first_step_moves_every_table_that_it_reads(world, monkeypatch):
    (batch,) = batches(world, 1)
    trained = learner(world)
    trained.first_step(batch)
    frozen = learner(world)
    monkeypatch.setattr(frozen, "step", lambda b: learner(world).step(b))
    with pytest.raises(IntegrityError, match="did not move in the first step"):
        frozen.first_step(batch)


def test_skips_are_bounded_within_a_sliding_window():
    budget = SkipBudget(NanGuard(max_skipped=2, per_steps=10), [])
    assert [budget.is_spent(step) for step in (1, 2, 11, 12, 13)] == [False] * 4 + [True]


def test_rates_fall_and_reach_the_fused_optimiser(world):
    (batch,) = batches(world, 1)
    moved = {}
    for share in (1.0, 0.5):
        trained = learner(world)
        before = plain_state(trained.tables)
        trained.scale_rates(share)
        trained.step(batch)
        after = plain_state(trained.tables)
        moved[share] = {t: (after[t] - before[t]).abs().sum().item() for t in before}
    for table, full in moved[1.0].items():
        assert moved[0.5][table] == pytest.approx(full / 2, rel=0.02), table


def interrupted(world, tmp_path, feed, monkeypatch, at):
    """Train a copy of the pipeline, stopped once at a step, then to the end."""
    loaded = load_pipeline(write_pipeline(tmp_path, feed))
    ingested = ingest(loaded, None)
    calls = iter(range(1, 10**6))
    original = Learner.step

    def step(self, batch):
        if next(calls) == at:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(loaded, ingested, silent)
    monkeypatch.setattr(Learner, "step", original)
    return train(loaded, ingested, silent)


def test_an_interrupted_run_ends_with_the_same_bytes(world, tmp_path, feed, monkeypatch):
    loaded, ingested = world
    expected = train(loaded, ingested, silent)
    resumed = interrupted(world, tmp_path, feed, monkeypatch, at=35)
    assert resumed.sha == expected.sha
    history = json.loads(resumed.path("history.json").read_bytes())
    assert history["steps"] >= 35 and len(history["valid"]["click"]) >= 2


def test_the_published_weights_are_those_of_the_best_validation(world):
    loaded, ingested = world
    trained = train(loaded, ingested, silent)
    history = json.loads(trained.path("history.json").read_bytes())
    totals = np.sum([[loss for _, loss in points] for points in history["valid"].values()], 0)
    steps = [step for step, _ in history["valid"]["click"]]
    assert history["best_step"] == steps[int(totals.argmin())]
    assert open_artifact(trained.dir).sha == trained.sha


def test_a_corrupt_checkpoint_is_passed_over_and_none_valid_is_an_error(world, tmp_path):
    trained = learner(world)
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step, batch in enumerate(batches(world, 2), 1):
        trained.step(batch)
        checkpoints.save(trained, Progress(step=step))
        if step == 1:
            expected = weights(trained)
    newest = tmp_path / "step-00000002" / "dense.safetensors"
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(bytes(data))
    fresh = learner(world)
    assert checkpoints.load(fresh).step == 1
    assert_equal(weights(fresh), expected)
    (tmp_path / "step-00000001" / "progress.json").unlink()
    with pytest.raises(IntegrityError, match="none of 2 checkpoints verifies"):
        checkpoints.load(learner(world))


def test_checkpoints_are_pruned_but_never_the_best(world, tmp_path):
    trained = learner(world)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save_best(trained, 1)
    for step in range(1, 6):
        checkpoints.save(trained, Progress(step=step, best_step=1))
    assert sorted(p.name for p in tmp_path.glob("*-*")) == [
        "best-00000001",
        "step-00000004",
        "step-00000005",
    ]


def test_weights_that_are_not_finite_are_never_written(world, tmp_path):
    trained = learner(world)
    with torch.no_grad():
        next(trained.model.dense_part.parameters()).fill_(torch.nan)
    with pytest.raises(IntegrityError, match="not finite"):
        weight_files(trained, tmp_path)


def test_a_stop_request_writes_a_checkpoint_and_asks_for_a_rerun(tmp_path, feed, monkeypatch):
    import contextlib

    from recsys_mtl.training import job

    loaded = load_pipeline(write_pipeline(tmp_path, feed))
    ingested = ingest(loaded, None)

    @contextlib.contextmanager
    def stop_at_once():
        yield lambda: True

    monkeypatch.setattr(job, "_stop_requests", stop_at_once)
    with pytest.raises(TransientError, match="asked to stop at step 1"):
        train(loaded, ingested, silent)
    assert list((tmp_path / "out").rglob("step-00000001/MANIFEST.json"))
