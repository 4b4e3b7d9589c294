"""Contracts between embeddings, bottoms, towers and heads."""

from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence

__all__ = ["BottomOutput", "Embedded", "EmbeddedSequence"]


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
