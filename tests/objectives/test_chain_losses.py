"""Closed forms, identities and masking of the losses of chains."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from torch.testing import assert_close

from recsys_mtl.objectives.losses import counted_rows, entire_space, task_losses
from tests.objectives.test_losses import batch_of

LOG2 = math.log(2)
LINE = (-1, 0, 1)
TREE = (-1, 0, 1, 1, 0)
CHAINS = ["product", "conditional", "calibrated", "independent"]


def outcomes(parents: tuple[int, ...]) -> Tensor:
    """All label rows in which a child is 1 only where its parent is, float64[N, T]."""
    rows = [
        row
        for row in itertools.product([0.0, 1.0], repeat=len(parents))
        if all(p < 0 or row[t] <= row[p] for t, p in enumerate(parents))
    ]
    return torch.tensor(rows, dtype=torch.float64)


def random_funnel(rows: int = 40, std: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits and monotone labels of LINE, float64[rows, 3]."""
    generator = torch.Generator().manual_seed(0)
    logits = std * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (rows, 3), generator=generator).double().cumprod(1)
    return logits.requires_grad_(), labels


def gradient(logits: Tensor, losses: Tensor) -> Tensor:
    return torch.autograd.grad(losses.sum(), logits)[0]


def test_gradient_identity_of_the_entire_space_loss() -> None:
    """B dL/dl_k = sum over t >= k of w_t (p_t - y_t) / (1 - p_t) (1 - c_k)."""
    logits, y = random_funnel()
    task_weights = torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    losses, _ = task_losses(logits, batch_of(y, torch.ones_like(y)), LINE, "product")
    c = logits.detach().sigmoid()
    p = c.cumprod(1)
    excess = task_weights * (p - y) / (1 - p)
    expected = excess.flip(1).cumsum(1).flip(1) * (1 - c) / len(y)
    assert_close(gradient(logits, losses * task_weights), expected, rtol=0, atol=1e-12)


def test_gradient_identity_of_the_conditional_loss() -> None:
    """B dL/dl_t = [y_(t-1) = 1] (c_t - y_t)."""
    logits, y = random_funnel()
    losses, _ = task_losses(logits, batch_of(y, torch.ones_like(y)), LINE, "conditional")
    reached = torch.cat([torch.ones(len(y), 1).double(), y[:, :-1]], dim=1)
    expected = reached * (logits.detach().sigmoid() - y) / len(y)
    assert_close(gradient(logits, losses), expected, rtol=0, atol=1e-12)


def test_gradient_identity_of_the_calibrated_loss() -> None:
    """The hinge adds a p_t (1 - p_t) to l_t and takes a p_u (1 - p_u) from l_u, where violated."""
    logits, y = random_funnel()
    losses, _ = task_losses(logits, batch_of(y, torch.ones_like(y)), LINE, "calibrated", 0.6)
    p = logits.detach().sigmoid()
    violated = (p[:, 1:] > p[:, :-1]).double()
    assert violated.mean(0).gt(0.2).all() and violated.mean(0).lt(0.8).all()
    expected = p - y
    expected[:, 1:] += 0.6 * violated * (p * (1 - p))[:, 1:]
    expected[:, :-1] -= 0.6 * violated * (p * (1 - p))[:, :-1]
    assert_close(gradient(logits, losses), expected / len(y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parents", [LINE, TREE, (-1, -1, 1), (2, 0, -1)])
@settings(max_examples=30)
@given(values=arrays("float64", 5, elements=st.floats(-12, 12)))
def test_conditional_losses_add_up_to_the_likelihood(parents, values) -> None:
    """Per row exactly, for every outcome; so the probabilities of all outcomes sum to 1."""
    logits = torch.from_numpy(values[: len(parents)])
    y = outcomes(parents)
    c = logits.sigmoid().numpy()
    found = []
    for row in y:
        batch = batch_of(row[None], torch.ones(1, len(parents)).double())
        losses, _ = task_losses(logits[None], batch, parents, "conditional")
        steps = [(c[t] if row[t] else 1 - c[t]) for t, p in enumerate(parents) if p < 0 or row[p]]
        assert float(losses.sum()) == pytest.approx(-np.log(steps).sum(), rel=1e-9, abs=1e-12)
        found.append(float(losses.sum()))
    assert np.exp(-np.array(found)).sum() == pytest.approx(1, abs=1e-12)


@given(seed=st.integers(0, 1000))
def test_conditional_losses_of_a_batch_add_up_to_the_weighted_likelihood(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = outcomes(LINE)
    logits = torch.randn(len(y), 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(len(y), 1, generator=generator, dtype=torch.float64) + 0.1
    batch = batch_of(y, torch.ones_like(y), weights.expand(-1, 3))
    losses, _ = task_losses(logits, batch, LINE, "conditional")
    # On a line the outcome is how far the row came: P = p_k - p_(k+1).
    p = torch.cat([logits.sigmoid().cumprod(1), torch.zeros(len(y), 1)], dim=1)
    p = torch.cat([torch.ones(len(y), 1), p], dim=1)
    came = y.sum(1).long()[:, None]
    nll = -(p.gather(1, came) - p.gather(1, came + 1)).log()
    expected = float((weights * nll).sum() / weights.sum())
    assert float(losses.sum()) == pytest.approx(expected, rel=1e-10)


def test_two_steps_of_a_product_are_esmm() -> None:
    """BCE(y, pCTR) + BCE(y z, pCTR pCVR) over all impressions, z seen on clicked rows only."""
    generator = torch.Generator().manual_seed(0)
    y, z = torch.randint(0, 2, (2, 30), generator=generator).double()
    logits = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    masks = torch.stack([torch.ones_like(y), y], dim=1)
    losses, _ = task_losses(logits, batch_of(torch.stack([y, z * y], 1), masks), (-1, 0), "product")
    ctr, cvr = logits.sigmoid().unbind(1)
    expected = binary_cross_entropy(ctr, y) + binary_cross_entropy(ctr * cvr, y * z)
    assert_close(losses.sum(), expected, rtol=1e-12, atol=0)


def test_a_conditional_loss_divides_by_all_rows() -> None:
    """Of four rows two reach the step, at log 2 each; the fifth has no known parent."""
    labels = torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 0], [0, 0]])
    masks = torch.tensor([[1.0, 1], [1, 1], [1, 1], [1, 0], [0, 1]])
    losses, present = task_losses(
        torch.zeros(5, 2), batch_of(labels, masks), (-1, 0), "conditional"
    )
    assert_close(losses, torch.tensor([LOG2, 2 * LOG2 / 4]))
    assert present.tolist() == [True, True]


def test_hinge_by_hand() -> None:
    """Child above parent by 1/4 with weight 3, below with weight 1, masked, and unknown parent."""
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0], [0, 9], [0, 9]])
    labels, masks = torch.ones(4, 2), torch.tensor([[1.0, 1], [1, 1], [1, 0], [0, 1]])
    weights = torch.tensor([[1.0, 3], [1, 1], [1, 1], [1, 1]])
    batch = batch_of(labels * masks, masks, weights)
    plain, _ = task_losses(logits, batch, (-1, 0), "calibrated")
    hinged, _ = task_losses(logits, batch, (-1, 0), "calibrated", 0.6)
    assert_close(plain, torch.tensor([(2 * LOG2 + math.log(4 / 3)) / 3, _child(3, 1)]))
    assert_close(hinged - plain, torch.tensor([0.0, 0.6 * 3 * 0.25 / 4]))


def _child(above: float, below: float) -> float:
    return (above * math.log(4 / 3) + below * LOG2) / (above + below)


def test_a_hinge_at_equal_rates_is_silent() -> None:
    logits = torch.full((2, 2), 0.7, requires_grad=True)
    batch = batch_of(torch.ones(2, 2), torch.ones(2, 2))
    found = [
        gradient(logits, task_losses(logits, batch, (-1, 0), "calibrated", h)[0])
        for h in (0.0, 1.0)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("chain", "trains_the_step"),
    [("product", True), ("conditional", False), ("calibrated", False), ("independent", False)],
)
def test_a_step_without_weight_is_trained_by_later_steps_of_a_product_only(
    chain, trains_the_step
) -> None:
    logits, y = random_funnel()
    weights = torch.tensor([1.0, 0, 1]).double().expand_as(y)
    losses, present = task_losses(logits, batch_of(y, torch.ones_like(y), weights), LINE, chain)
    assert present.tolist() == [True, False, True]
    grad = gradient(logits, losses)
    assert grad[:, 1].ne(0).any() == trains_the_step
    assert grad[:, [0, 2]].ne(0).any(0).all()
    suffix = torch.tensor([1.0, 0, 0]).double().expand_as(y)
    losses, _ = task_losses(logits, batch_of(y, torch.ones_like(y), suffix), LINE, chain)
    assert gradient(logits, losses)[:, 1:].eq(0).all()


HEADS_TRAINED = {
    # rows: stopped before the step, step open, step open and later one "seen", passed the step
    "product": [[1, 1, 1], [1, 0, 0], [1, 0, 0], [1, 1, 1]],
    "conditional": [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]],
    "calibrated": [[1, 1, 1], [1, 0, 0], [1, 0, 0], [1, 1, 1]],
    "independent": [[1, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1]],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_which_heads_a_row_trains(chain: str) -> None:
    """An open step is never a negative, and closes all steps after it."""
    labels = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0]])
    masks = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1]])
    logits = torch.tensor([[0.5, 0.2, -0.1]]).repeat(4, 1).requires_grad_()
    losses, _ = task_losses(logits, batch_of(labels, masks), LINE, chain, 0.6)
    assert gradient(logits, losses).ne(0).int().tolist() == HEADS_TRAINED[chain]


@pytest.mark.parametrize("chain", CHAINS)
@given(seed=st.integers(0, 1000))
def test_logits_that_do_not_count_do_not_matter(chain: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, masks = torch.randint(0, 2, (2, 6, 5), generator=generator).float()
    logits = torch.randn(6, 5, generator=generator, requires_grad=True)
    batch = batch_of(labels * masks, masks, torch.rand(6, 5, generator=generator))
    counts = masks if chain == "independent" else entire_space(batch.labels, masks, TREE)[1]
    assert torch.equal(counted_rows(batch, TREE, chain), counts.sum(0))
    losses, present = task_losses(logits, batch, TREE, chain, 0.6)
    assert torch.equal(present, counts.sum(0) > 0)
    assert gradient(logits, losses)[counts == 0].eq(0).all()
    elsewhere = torch.where(counts == 1, logits, -1e4)
    assert torch.equal(task_losses(elsewhere, batch, TREE, chain, 0.6)[0], losses)


@pytest.mark.parametrize("chain", CHAINS)
@given(seed=st.integers(0, 1000), order=st.permutations(range(5)))
def test_order_of_tasks_does_not_matter(chain: str, seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, masks = torch.randint(0, 2, (2, 6, 5), generator=generator).double()
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    straight, _ = task_losses(logits, batch_of(labels * masks, masks, weights), TREE, chain, 0.6)
    moved = tuple(order.index(TREE[t]) if TREE[t] >= 0 else -1 for t in order)
    batch = batch_of((labels * masks)[:, order], masks[:, order], weights[:, order])
    shuffled, _ = task_losses(logits[:, order], batch, moved, chain, 0.6)
    assert_close(shuffled, straight[order], rtol=1e-12, atol=0)


def test_counted_rows_by_hand() -> None:
    """Stopped and unseen; seen; open; parent unknown."""
    labels = torch.tensor([[0.0, 0], [1, 1], [1, 0], [0, 0]])
    masks = torch.tensor([[1.0, 0], [1, 1], [1, 0], [0, 1]])
    found = {chain: counted_rows(batch_of(labels, masks), (-1, 0), chain) for chain in CHAINS}
    assert {chain: rows.tolist() for chain, rows in found.items()} == {
        "product": [3, 2],
        "conditional": [3, 2],
        "calibrated": [3, 2],
        "independent": [3, 2],
    }
    more = torch.tensor([[1.0, 1], [1, 1], [1, 0], [0, 1]])
    assert counted_rows(batch_of(labels, more), (-1, 0), "independent").tolist() == [3, 3]
    assert counted_rows(batch_of(labels, more), (-1, 0), "conditional").tolist() == [3, 2]


@pytest.mark.parametrize("chain", CHAINS)
def test_gradients_equal_finite_differences(chain: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, masks = torch.randint(0, 2, (2, 7, 5), generator=generator).double()
    weights = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    logits = 4 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    batch = batch_of(labels * masks, masks, weights)
    assert torch.autograd.gradcheck(
        lambda x: task_losses(x, batch, TREE, chain, 0.6)[0], (logits.requires_grad_(),), rtol=1e-6
    )


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_gradients(chain: str, dtype: torch.dtype) -> None:
    logits = (1e4 * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)).to(dtype)
    size = float(logits.max())
    logits.requires_grad_()
    for label in (0.0, 1.0):
        batch = batch_of(torch.full((8, 3), label), torch.ones(8, 3))
        losses, _ = task_losses(logits, batch, LINE, chain, 0.6)
        assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.isfinite(losses).all()
        assert torch.isfinite(gradient(logits, losses)).all()
        assert losses[0] == size / 2
