"""Contracts between embeddings, bottoms, towers and heads."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class EmbeddedSequence:
    """One behaviour sequence after look-up, left-padded so that the newest event is last."""

    fields: dict[str, Tensor]
    """`<sequence>__<field>` to float32[B, S, E]; 0 where padded."""
    mask: Tensor
    """bool[B, S], True at real events."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Everything a bottom reads."""

    bags: dict[str, Tensor]
    """Bag name to float32[B, E], pooled; 0 for an empty bag."""
    dense: Tensor
    """float32[B, Fd]"""
    sequences: dict[str, EmbeddedSequence]


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
