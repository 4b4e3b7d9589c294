"""Masked losses of binary labels, one number per task."""

from typing import Literal

import torch
from torch import Tensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.models.heads.chain import chain_log_probs, topological


def task_losses(
    logits: Tensor,
    batch: Batch,
    parents: tuple[int, ...],
    chain: Literal["product", "independent"],
) -> tuple[Tensor, Tensor]:
    """Weighted mean cross-entropy of each task over the rows on which it is defined.

        L_t = sum_b w_bt m_bt BCE(y_bt, p_bt) / sum_b w_bt m_bt

    With `chain` product, p is end-to-end and rows and labels are those of `entire_space`;
    with independent, parents are ignored.

    Args:
        logits: float[B, T]; losses are computed in float32 at least.
        batch: labels, masks and weights.
        parents: index of each task's parent, -1 without.
        chain: how labels with a parent are modelled.

    Returns:
        losses float32[T] in nats per row, 0 without rows, and present bool[T], true where the
        weights of the task's rows sum to more than 0. Rows that do not count get gradient 0.
    """
    labels, masks = batch.labels, batch.masks
    if chain == "product":
        labels, masks = entire_space(labels, masks, parents)
    else:
        parents = (-1,) * len(parents)
    log_p, log_not_p = chain_log_probs(logits, parents)
    nll_BT = -(labels * log_p + (1 - labels) * log_not_p)
    weights = batch.weights * masks
    total = weights.sum(0)
    present = total > 0
    # where, not a product: 0 times an infinite loss of a row that does not count would be NaN.
    summed = torch.where(weights > 0, weights * nll_BT, 0.0).sum(0)
    return summed / torch.where(present, total, 1.0), present


def entire_space(labels: Tensor, masks: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Labels and masks of a chain over all rows.

    A child's label is parent x child, so where the parent is known to be 0 the child is known
    to be 0 as well, observed or not. Where the parent is 1, the child counts once it is observed
    and mature itself. Rows whose parent does not count do not count.

    Args:
        labels: float32[B, T], 0 where masked.
        masks: float32[B, T], 0 or 1.
        parents: index of each task's parent, -1 without.

    Returns:
        float32[B, T] labels (0 where masked) and float32[B, T] masks.
    """
    label, mask = list(labels.unbind(1)), list(masks.unbind(1))
    for task in topological(parents):
        parent = parents[task]
        if parent >= 0:
            stopped = 1 - label[parent]
            mask[task] = mask[parent] * torch.maximum(stopped, mask[task])
            label[task] = mask[task] * label[parent] * label[task]
    return torch.stack(label, 1), torch.stack(mask, 1)
