"""Rates at which binary heads start, from the labels alone."""

import torch
from torch import Tensor

from recsys_mtl.models.heads.chain import Chain, chained
from recsys_mtl.objectives.losses import defined, of_parents


def step_counts(
    labels: Tensor, masks: Tensor, parents: tuple[int, ...], chain: Chain
) -> tuple[Tensor, Tensor]:
    """Rows that reach the step of each task's logit, and those that take it, float64[T] each.

    The logit of a label with a parent is a conditional rate in a product and in a conditional
    chain: its step is reached where the parent is 1. In the others every row that counts reaches
    it.

    Args:
        labels: float32[B, T], 0 where masked.
        masks: float32[B, T], 0 or 1.
        parents: index of each task's parent, -1 without.
        chain: how labels with a parent are modelled.
    """
    labels, masks = defined(labels, masks, parents, chain)
    reached = masks * of_parents(labels, chained(chain, parents))
    return reached.double().sum(0), (reached * labels).double().sum(0)


def base_rate_logits(reached: Tensor, taken: Tensor) -> Tensor:
    """Logit of each step's rate, smoothed by half a row either way: finite without rows.

        z = log(taken + 1/2) - log(reached - taken + 1/2)

    Args:
        reached: float64[T], rows that reach the step (`step_counts`).
        taken: float64[T], those of them that take it.

    Returns:
        float64[T].
    """
    return torch.log(taken + 0.5) - torch.log(reached - taken + 0.5)
