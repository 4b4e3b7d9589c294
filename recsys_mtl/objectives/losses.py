"""Masked losses of binary labels, one number per task."""

import torch
from torch import Tensor
from torch.nn.functional import relu

from recsys_mtl.batches.batch import Batch
from recsys_mtl.models.heads.chain import Chain, chain_log_probs, topological


def task_losses(
    logits: Tensor, batch: Batch, parents: tuple[int, ...], chain: Chain, hinge: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weighted mean loss of each task over the rows on which it is defined.

        L_t = sum_b w_bt m_bt l_bt / sum_b w_bt m_bt

    Labels y and masks m are those of `entire_space`, and with a parent u(t) the loss of a row is

        product       BCE(y_t, p_t), with p_t multiplied along the path (Ma et al., SIGIR 2018)
        conditional   [y_u = 1] BCE(y_t, sigmoid(l_t)): each step once, where it is reached; over
                      the tasks a row adds up to -log P(its outcomes), and L_t divides by all
                      rows, as product does, not by those that reach the step
        calibrated    BCE(y_t, sigmoid(l_t)) + hinge * max(p_t - p_u, 0), with p = sigmoid(l),
                      pushing p_t down and p_u up (AITM; Xi et al., KDD 2021). Our reading: the
                      hinge is part of the child's loss, so it averages over the child's rows

    A root costs BCE(y_t, sigmoid(l_t)) in all of them. With `chain` independent every label is a
    root, on its own rows.

    Args:
        logits: float[B, T]; losses are computed in float32 at least.
        batch: labels, masks and weights.
        parents: index of each task's parent, -1 without.
        chain: how labels with a parent are modelled.
        hinge: its weight in a calibrated chain.

    Returns:
        losses float32[T] in nats per row, 0 without rows, and present bool[T], true where the
        weights of the task's rows sum to more than 0. Rows that do not count get gradient 0.
    """
    labels, masks = defined(batch.labels, batch.masks, parents, chain)
    paths = parents if chain == "product" else (-1,) * len(parents)
    log_p, log_not_p = chain_log_probs(logits, paths)
    loss_BT = -(labels * log_p + (1 - labels) * log_not_p)
    if chain == "calibrated":
        p = log_p.exp()
        loss_BT = loss_BT + hinge * relu(p - of_parents(p, parents))
    weights = batch.weights * masks
    total = weights.sum(0)
    present = total > 0
    if chain == "conditional":
        weights = weights * of_parents(labels, parents)
    # where, not a product: 0 times an infinite loss of a row that does not count would be NaN.
    summed = torch.where(weights > 0, weights * loss_BT, 0.0).sum(0)
    return summed / torch.where(present, total, 1.0), present


def counted_rows(batch: Batch, parents: tuple[int, ...], chain: Chain) -> Tensor:
    """Rows that each task's loss is the mean of, whatever their weights: float32[T]."""
    return defined(batch.labels, batch.masks, parents, chain)[1].sum(0)


def defined(
    labels: Tensor, masks: Tensor, parents: tuple[int, ...], chain: Chain
) -> tuple[Tensor, Tensor]:
    """Labels and masks float32[B, T] that a chain is trained on."""
    if chain == "independent":
        return labels, masks
    return entire_space(labels, masks, parents)


def of_parents(values: Tensor, parents: tuple[int, ...]) -> Tensor:
    """The value of each task's parent, float[B, T]; 1, a sure event, for tasks without one."""
    padded = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
    return padded[:, list(parents)]


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
    if all(parent < 0 for parent in parents):
        return labels, masks
    label, mask = list(labels.unbind(1)), list(masks.unbind(1))
    for task in topological(parents):
        parent = parents[task]
        if parent >= 0:
            stopped = 1 - label[parent]
            mask[task] = mask[parent] * torch.maximum(stopped, mask[task])
            label[task] = mask[task] * label[parent] * label[task]
    return torch.stack(label, 1), torch.stack(mask, 1)
