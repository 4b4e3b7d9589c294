"""The one step that changes weights."""

from dataclasses import replace

import pytest
import torch

from recsys_mtl.embeddings.state import plain_state, unwrapped
from recsys_mtl.errors import IntegrityError
from tests.batches.encoded import make_batch
from tests.training.small import changed, make_learner, state_of


class BadGradient(torch.autograd.Function):
    """Identity whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


def spoiled(name: str, value: float):
    batch = make_batch(16, seed=1)
    tensor = getattr(batch, name).clone()
    tensor[3, 0] = value
    return replace(batch, **{name: tensor})


def spoil_losses(learner, monkeypatch, change):
    original = learner.losses

    def losses(batch):
        values, present = original(batch)
        return change(values), present

    monkeypatch.setattr(learner, "losses", losses)


def test_each_touched_row_moves_by_one_step_of_row_wise_adagrad():
    learner = make_learner()
    before = plain_state(learner.tables)
    learner.step(make_batch(16))
    for table, weight in plain_state(learner.tables).items():
        delta = weight - before[table]
        moved = delta[delta.abs().sum(1) > 0]
        # First step: g / sqrt(mean(g^2)), whose root mean square is 1, times the rate 0.05.
        assert len(moved) > 1
        torch.testing.assert_close(
            moved.square().mean(1).sqrt(), torch.full((len(moved),), 0.05), rtol=1e-3, atol=0
        )


def test_adam_moves_a_dense_weight_by_the_rate_at_the_first_step():
    learner = make_learner()
    weights = learner.model.dense_part.state_dict()
    name = next(k for k in weights if k.startswith("heads.0") and k.endswith("weight"))
    before = weights[name].clone()
    learner.step(make_batch(16))
    gradient = dict(learner.model.dense_part.named_parameters())[name].grad
    large = gradient.abs() > 1e-4
    assert large.any()
    delta = learner.model.dense_part.state_dict()[name] - before
    torch.testing.assert_close(delta[large], -0.01 * gradient.sign()[large], rtol=1e-3, atol=0)


def test_scaled_rates_reach_both_optimisers():
    full, half = make_learner(), make_learner()
    half.scale_rates(0.5)
    before = state_of(full)
    for learner in (full, half):
        learner.step(make_batch(16))
    for part in ("table.user", next(k for k in before if k.startswith("dense.heads"))):
        moved, moved_half = state_of(full)[part] - before[part], state_of(half)[part] - before[part]
        torch.testing.assert_close(moved_half, moved / 2, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "labels", "weights"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bad_input_leaves_no_trace(name, value):
    seen, unseen = make_learner(), make_learner()
    for learner in (seen, unseen):
        assert not learner.step(make_batch(16, seed=0)).was_skipped
    assert seen.step(spoiled(name, value)).was_skipped
    for learner in (seen, unseen):
        learner.step(make_batch(16, seed=2))
    assert changed(state_of(seen), state_of(unseen)) == []


def test_a_bad_input_never_reaches_the_model(monkeypatch):
    """Nor may it where its rows are masked, so that the loss would be finite."""
    learner = make_learner()
    monkeypatch.setattr(learner, "losses", lambda batch: pytest.fail("the model ran"))
    assert learner.step(spoiled("dense", torch.nan)).was_skipped


@pytest.mark.parametrize("task", [0, 1])
def test_a_bad_loss_of_one_task_leaves_no_trace(task, monkeypatch):
    seen, unseen = make_learner(), make_learner()
    bad = torch.zeros(2)
    bad[task] = torch.inf
    with monkeypatch.context() as patch:
        spoil_losses(seen, patch, lambda losses: losses + bad)
        assert seen.step(make_batch(16)).was_skipped
    for learner in (seen, unseen):
        learner.step(make_batch(16, seed=2))
    assert changed(state_of(seen), state_of(unseen)) == []


def test_a_gradient_that_is_bad_everywhere_leaves_no_trace(monkeypatch):
    learner = make_learner()
    learner.step(make_batch(16))
    before = state_of(learner)
    with monkeypatch.context() as patch:
        spoil_losses(learner, patch, BadGradient.apply)
        result = learner.step(make_batch(16, seed=1))
    assert result.was_skipped and torch.isfinite(result.losses).all()
    assert changed(before, state_of(learner)) == []
    assert not learner.step(make_batch(16, seed=2)).was_skipped


def test_a_gradient_that_is_bad_at_the_tables_alone_leaves_no_trace_there():
    learner = make_learner()
    learner.step(make_batch(16))
    before = state_of(learner)

    def spoil_then_watch(values):
        values.register_hook(lambda gradient: gradient * torch.inf)
        learner.guard.watch(values)

    unwrapped(learner.tables).output_hook = spoil_then_watch
    assert learner.step(make_batch(16, seed=1)).was_skipped
    assert all(torch.isfinite(p.grad).all() for p in learner.model.dense_part.parameters())
    assert changed(before, state_of(learner)) == []


def test_a_gradient_that_is_bad_above_the_tables_skips_the_dense_step():
    learner = make_learner()
    before = state_of(learner)
    weight = next(learner.model.dense_part.heads.parameters())
    handle = weight.register_hook(lambda gradient: gradient * torch.nan)
    assert learner.step(make_batch(16)).was_skipped
    handle.remove()
    after = state_of(learner)
    # The tables had a finite gradient and stepped inside backward; adam holds no state yet.
    assert {name.split(".")[0] for name in changed(before, after)} == {"table", "fused"}
    assert all(torch.isfinite(value).all() for value in after.values())


def test_tables_that_do_not_move_are_named():
    learner = make_learner()
    learner.scale_rates(0.0)
    with pytest.raises(IntegrityError, match=r"tables .*user.* did not move"):
        learner.first_step(make_batch(16))


def test_a_frozen_table_among_moving_ones_is_named(monkeypatch):
    learner = make_learner()
    frozen = plain_state(learner.tables)["topic"]
    monkeypatch.setattr(
        "recsys_mtl.training.learner.plain_state",
        lambda tables: {**plain_state(tables), "topic": frozen},
    )
    with pytest.raises(IntegrityError, match="tables topic did not move"):
        learner.first_step(make_batch(16))


def test_the_first_step_is_a_step():
    checked, plain = make_learner(), make_learner()
    checked.first_step(make_batch(16))
    plain.step(make_batch(16))
    assert changed(state_of(checked), state_of(plain)) == []


def test_a_batch_without_labels_is_not_held_against_the_tables():
    batch = make_batch(16)
    learner = make_learner()
    result = learner.first_step(replace(batch, masks=torch.zeros_like(batch.masks)))
    assert not result.was_skipped and result.losses.tolist() == [0, 0]
