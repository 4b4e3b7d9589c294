"""The order of rows in an epoch: a function of the shards, the seed and the epoch alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Part of a shard that is read at once."""

    file: str
    index: int
    """Row group in the file."""
    rows: int
    """Rows of the wanted split."""


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Shuffle an epoch: row groups across shards, then rows within a buffer."""

    seed: int
    epoch: int
    buffer_rows: int = 262_144
    """Row groups are added to a buffer until it holds that many rows."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Row groups whose rows are in memory together."""

    number: int
    """Position in the epoch; part of the seed of its permutation."""
    first_row: int
    """Rows of the epoch before this buffer."""
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows of the wanted split in all groups."""
        return sum(group.rows for group in self.groups)


def plan_epoch(groups: Sequence[RowGroup], shuffle: Shuffle | None) -> list[Buffer]:
    """Cut an epoch into buffers; groups without a wanted row are never read.

    Args:
        groups: of all shards, in a fixed order.
        shuffle: order and size of buffers; without it one group each, in order.
    """
    wanted = [group for group in groups if group.rows]
    if shuffle is not None:
        order = _generator(shuffle, 0).permutation(len(wanted))
        wanted = [wanted[i] for i in order]
    capacity = shuffle.buffer_rows if shuffle is not None else 1
    buffers: list[Buffer] = []
    held: list[RowGroup] = []
    first_row = 0
    for position, group in enumerate(wanted):
        held.append(group)
        if sum(g.rows for g in held) >= capacity or position == len(wanted) - 1:
            buffers.append(Buffer(len(buffers), first_row, tuple(held)))
            first_row += buffers[-1].rows
            held = []
    return buffers


def order_within(buffer: Buffer, shuffle: Shuffle | None) -> np.ndarray:
    """Order of a buffer's wanted rows, int64[rows]; that of any buffer needs no other one."""
    if shuffle is None:
        return np.arange(buffer.rows)
    return _generator(shuffle, 1 + buffer.number).permutation(buffer.rows)


def _generator(shuffle: Shuffle, stream: int) -> np.random.Generator:
    return np.random.default_rng((shuffle.seed, shuffle.epoch, stream))
