"""What leaves the tables and enters a bottom."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class EmbeddedSequence:
    """One behaviour sequence after look-up, left-padded so that the newest event is last."""

    fields: dict[str, Tensor]
    """`<sequence>__<field>` to float32[B, S, E]; exactly 0 where padded."""
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
