import torch

from recsys_mtl.objectives.static import combine


def test_weighted_sum_over_present_tasks() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    present, weights = torch.tensor([True, False, True]), torch.tensor([0.5, 10.0, 3.0])
    total = combine(losses, present, weights)
    assert total.item() == 0.5 * 1 + 3 * 4
    total.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.5, 0, 3]


def test_nothing_present_costs_nothing() -> None:
    assert combine(torch.ones(2), torch.zeros(2).bool(), torch.ones(2)) == 0
