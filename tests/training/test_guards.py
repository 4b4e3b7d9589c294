"""Guards of the backward pass."""

import pytest
import torch

from recsys_mtl.embeddings.state import plain_state, unwrapped
from recsys_mtl.objectives.static import combine
from recsys_mtl.spec.pipeline import NanGuard
from recsys_mtl.training.guards import BackwardGuard, SkipBudget, has_finite_gradients
from tests.batches.encoded import make_batch
from tests.training.small import changed, make_learner, state_of


@pytest.fixture
def graph():
    """A learner and the loss of one batch, with its graph."""
    learner = make_learner()
    losses, present = learner.losses(make_batch(16))
    return learner, combine(losses, present, torch.ones(2))


def tables_of(learner):
    state = state_of(learner)
    return {k: v for k, v in state.items() if k.startswith(("table", "fused"))}


def kernel_weights(learner):
    """What the fused kernels differentiate: one flat tensor per collection of tables."""
    embeddings = unwrapped(learner.tables)
    collections = (embeddings.bags, embeddings.sequence_bags)
    kernels = [k for c in collections for look_up in c._lookups for k in look_up._emb_modules]
    return [kernel.emb_module.weights_host for kernel in kernels]


def test_a_backward_outside_the_step_raises_and_leaves_the_tables(graph):
    learner, loss = graph
    before = tables_of(learner)
    with pytest.raises(RuntimeError, match="outside the training step"):
        loss.backward()
    assert changed(before, tables_of(learner)) == []


def test_the_permission_ends_with_the_step(graph):
    learner, _ = graph
    learner.step(make_batch(16))
    before = tables_of(learner)
    losses, _ = learner.losses(make_batch(16, seed=1))
    with pytest.raises(RuntimeError, match="outside the training step"):
        losses.sum().backward()
    assert changed(before, tables_of(learner)) == []


def test_the_second_backward_raises_and_only_the_first_has_stepped(graph):
    learner, loss = graph
    with learner.guard.sanctioned():
        loss.backward(retain_graph=True)
        once = tables_of(learner)
        with pytest.raises(RuntimeError, match="train them twice"):
            loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="train them twice"):
        loss.backward()
    assert changed(once, tables_of(learner)) == []


@pytest.mark.parametrize("num_runs", [1, 2])
def test_task_wise_backwards_are_refused_at_the_second_task(num_runs):
    learner = make_learner()
    for seed in range(num_runs):
        losses, _ = learner.losses(make_batch(16, seed))
        with learner.guard.sanctioned():
            losses[0].backward(retain_graph=True)
            with pytest.raises(RuntimeError, match="train them twice"):
                losses[1].backward()


def test_a_foreign_gradient_of_the_tables_raises_and_leaves_them(graph):
    learner, loss = graph
    before = tables_of(learner)
    flat = kernel_weights(learner)
    with pytest.raises(RuntimeError, match="outside the training step"):
        torch.autograd.grad(loss, flat)
    assert changed(before, tables_of(learner)) == []


def test_a_gradient_above_the_tables_is_allowed(graph):
    learner, loss = graph
    before = tables_of(learner)
    heads = list(learner.model.dense_part.heads.parameters())
    gradients = torch.autograd.grad(loss, heads)
    assert any(g.abs().sum() > 0 for g in gradients)
    assert changed(before, tables_of(learner)) == []


def test_a_non_finite_gradient_becomes_zero_and_is_flagged():
    guard = BackwardGuard()
    weight = torch.ones(3, requires_grad=True)
    values = weight * 1.0
    guard.watch(values)
    with guard.sanctioned():
        (values * torch.tensor([1.0, torch.nan, 2.0])).sum().backward()
    assert guard.is_poisoned
    assert weight.grad.tolist() == [0, 0, 0]


def test_the_flag_is_that_of_the_last_backward():
    guard = BackwardGuard()
    for factor, is_poisoned in ((torch.inf, True), (3.0, False)):
        weight = torch.ones(1, requires_grad=True)
        values = weight * 1.0
        guard.watch(values)
        with guard.sanctioned():
            (values * factor).sum().backward()
        assert guard.is_poisoned is is_poisoned
    assert weight.grad.tolist() == [3.0]


def test_an_evaluation_hooks_nothing():
    learner = make_learner()
    with torch.no_grad():
        learner.losses(make_batch(4))
    before = plain_state(learner.tables)
    assert not learner.step(make_batch(16)).was_skipped
    assert not torch.equal(before["user"], plain_state(learner.tables)["user"])


def test_skips_are_counted_over_a_sliding_window():
    budget = SkipBudget(NanGuard(max_skipped=2, per_steps=10), [])
    assert [budget.is_spent(step) for step in (1, 5, 11, 14)] == [False, False, False, True]
    assert budget.skipped == [5, 11, 14]


def test_a_resumed_budget_remembers():
    budget = SkipBudget(NanGuard(max_skipped=1, per_steps=10), [3])
    assert budget.is_spent(12)


@pytest.mark.parametrize(("value", "is_finite"), [(1.0, True), (torch.nan, False)])
def test_gradients_are_judged_by_their_norm(value, is_finite):
    a, b, unused = (torch.zeros(2, requires_grad=True) for _ in range(3))
    a.grad, b.grad = torch.ones(2), torch.tensor([0.0, value])
    assert has_finite_gradients([a, b, unused]) is is_finite


def test_no_gradient_at_all_is_finite():
    assert has_finite_gradients([torch.zeros(1, requires_grad=True)])
