"""Contracts between embeddings, bottoms, towers and heads."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence

__all__ = [
    "BottomOutput",
    "Embedded",
    "EmbeddedSequence",
    "Mixture",
    "Probe",
    "mix",
    "names_of",
]


@dataclass(frozen=True, slots=True)
class BottomOutput:
    """Inputs of a tower.

    A bottom without task-specific parts puts the same tensor object under every
    task, `shared` and every group; towers may test identity and compute once.
    """

    task: dict[str, Tensor]
    """Task name to x_t, float32[B, D]."""
    shared: Tensor
    """float32[B, D]"""
    groups: dict[str, Tensor] | None = None
    """Task category to float32[B, D], for towers with a hierarchy."""
    tokens: Tensor | None = None
    """float32[B, F, E], field and sequence tokens, for towers that attend over fields."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What one gate mixes on one batch, before it is summed."""

    layer: str
    """`1`, `2`, ... from the input on; `selector` and `transfer` where that says more."""
    reader: str
    """The task that reads the sum; in inner layers `shared` or a task category."""
    experts: tuple[str, ...]
    """K names, `<owner>/<number>` with owner `shared`, a category, a task, or `field` where fields
    take the place of experts; the same name in two mixtures of a layer is the same expert."""
    weights: Tensor
    """float32[B, K], rows sum to 1."""
    outputs: Tensor
    """float32[B, K, D]"""
    self_weights: Tensor | None = None
    """float32[B, K], added to `weights` by a self gate; 0 for experts that it does not read."""

    def sum(self) -> Tensor:
        """sum_k (weights + self_weights)_k outputs_k, float32[B, D]."""
        weights = self.weights if self.self_weights is None else self.weights + self.self_weights
        return torch.bmm(weights[:, None], self.outputs).squeeze(1)


Probe = Callable[[Mixture], Mixture]
"""Sees every mixture of a forward pass, and may return another in its place."""


def mix(mixture: Mixture, probe: Probe | None) -> Tensor:
    """The sum of a mixture, float32[B, D], as a probe leaves it."""
    return (mixture if probe is None else probe(mixture)).sum()


def names_of(owner: str, count: int) -> tuple[str, ...]:
    """Names of an owner's experts."""
    return tuple(f"{owner}/{i}" for i in range(count))
