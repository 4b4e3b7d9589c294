"""Entire-space chain: the only place where logits become probabilities."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Chain = Literal["product", "conditional", "calibrated", "independent"]
"""How a label with a parent is modelled; losses in `objectives.losses`."""

_HALF = -math.log(2)


def chained(chain: Chain, parents: tuple[int, ...]) -> tuple[int, ...]:
    """Parents along which predictions are multiplied.

    The logit of a label with a parent is a conditional rate in a product and in a conditional
    chain. In a calibrated chain and in none it is the rate over the entire space already, as if
    every label were a root.
    """
    return parents if chain in ("product", "conditional") else (-1,) * len(parents)


def chain_log_probs(logits: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a tree of outcomes and of their complements.

    A logit l_t with a parent is a conditional rate, so along the path from the root

        log p_t = log sigmoid(l_t) + log p_parent(t)

    and p_t <= p_parent(t) for any logits. With T = 2 it is ESMM (Ma et al., SIGIR 2018). The
    complement is log1p(-p_t) up to p_t = 1/2, and above it the sum over where the path ends,

        1 - p_t = (1 - p_parent(t)) + p_parent(t) sigmoid(-l_t),

    so neither loses digits to cancellation: values and gradients are finite and not clamped
    for logits up to at least +-1e4.

    Args:
        logits: float[B, T]; half precision is raised to float32.
        parents: index of each task's parent, -1 without; in any order, without cycles.

    Returns:
        log p and log(1 - p), both float32[B, T].
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if all(parent < 0 for parent in parents):
        return logsigmoid(logits), logsigmoid(-logits)
    log_step, log_stop = logsigmoid(logits).unbind(1), logsigmoid(-logits).unbind(1)
    log_p: dict[int, Tensor] = {}
    log_not_p: dict[int, Tensor] = {}
    for task in topological(parents):
        parent = parents[task]
        if parent < 0:
            log_p[task], log_not_p[task] = log_step[task], log_stop[task]
            continue
        log_p[task] = log_step[task] + log_p[parent]
        rare = torch.log1p(-torch.exp(log_p[task].clamp(max=_HALF)))
        frequent = torch.logaddexp(log_not_p[parent], log_p[parent] + log_stop[task])
        log_not_p[task] = torch.where(log_p[task] <= _HALF, rare, frequent)
    order = range(len(parents))
    return torch.stack([log_p[t] for t in order], 1), torch.stack([log_not_p[t] for t in order], 1)


def topological(parents: tuple[int, ...]) -> list[int]:
    """Tasks in an order in which parents come before their children.

    Raises:
        ValueError: if the parents form a cycle.
    """
    order: list[int] = []
    while len(order) < len(parents):
        ready = [t for t, p in enumerate(parents) if t not in order and (p < 0 or p in order)]
        if not ready:
            raise ValueError(f"parents {parents} form a cycle; each path must end at a root (-1)")
        order += ready
    return order
