"""One look-up per table for everything that reads a table of behaviour sequences.

A KeyedJaggedTensor has one stride for all keys, but sequences have many ids per
row. So a table that a sequence reads gets one key whose bags hold one id each:
first the ids of its plain features, then those of every sequence field, padded
with empty bags to the stride of the longest table. Positions before a sequence's
first event are empty bags as well: the kernel writes exact zeros there and skips
them in backward, which measured faster than scattering the events afterwards.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.spec.layout import Bag


@dataclass(frozen=True, slots=True)
class Slots:
    """A block of one-id bags of one table, made for one bag or one sequence field."""

    ids: Tensor
    """int64[N]"""
    filled: Tensor
    """int32[P], 1 where the slot holds the next id, 0 where it is empty; N ones."""


def bag_slots(ids: Tensor) -> Slots:
    """One slot per id: rows of an id feature, or all ids of a list feature."""
    return Slots(ids, torch.ones(ids.numel(), dtype=torch.int32, device=ids.device))


def sequence_mask(lengths: Tensor) -> Tensor:
    """True at the last `lengths[b]` of S positions; S is the longest sequence, at least 1.

    Args:
        lengths: int32[B], B >= 1.

    Returns:
        bool[B, S]
    """
    width = max(1, int(lengths.max()))
    steps = torch.arange(width, dtype=lengths.dtype, device=lengths.device)
    return steps >= (width - lengths)[:, None]


def join(tables: dict[str, list[Slots]]) -> KeyedJaggedTensor:
    """KJT(one key per table, stride = most slots of any table) over all blocks, in order."""
    stride = max(sum(s.filled.numel() for s in blocks) for blocks in tables.values())
    ids: list[Tensor] = []
    filled: list[Tensor] = []
    for blocks in tables.values():
        used = sum(s.filled.numel() for s in blocks)
        ids += [s.ids for s in blocks]
        filled += [s.filled for s in blocks]
        filled += [blocks[0].filled.new_zeros(stride - used)] if used < stride else []
    return KeyedJaggedTensor(keys=list(tables), values=torch.cat(ids), lengths=torch.cat(filled))


def part(values: Tensor, widths: list[int], tables: dict[str, list[Slots]]) -> list[list[Tensor]]:
    """Cut looked-up rows back into the blocks that `join` was given.

    `split` rather than slices: its backward writes one gradient of the whole
    instead of one zero-filled copy for each block.

    Args:
        values: float32[stride, sum of widths], columns in the order of `tables`.
        widths: E of each table.
        tables: as given to `join`.

    Returns:
        For each table, for each block, float32[P, E].
    """
    columns = torch.split(values, widths, dim=1)
    return [
        list(torch.split(column, _sizes(column.shape[0], blocks)))[:-1]
        for column, blocks in zip(columns, tables.values(), strict=True)
    ]


def pool(rows: Tensor, bag: Bag, lengths: Tensor) -> Tensor:
    """Pool one-id rows into the bags they belong to; an empty bag gives 0.

    Args:
        rows: float32[N, E], ids of all rows, row by row.
        bag: says whether to add or to average.
        lengths: int32[B], ids of each row.

    Returns:
        float32[B, E]
    """
    if not bag.is_list:
        return rows
    row = torch.repeat_interleave(lengths.long(), output_size=rows.shape[0])
    total = rows.new_zeros(lengths.shape[0], rows.shape[1]).index_add(0, row, rows)
    return mean_of(total, lengths) if bag.pooling == "mean" else total


def mean_of(total: Tensor, lengths: Tensor) -> Tensor:
    """Divide the sums float32[B, E] by int32[B] lengths; 0 stays 0 where a bag is empty."""
    return total / lengths.clamp(min=1)[:, None]


def _sizes(stride: int, blocks: list[Slots]) -> list[int]:
    """Slots of each block, then those of the padding."""
    sizes = [s.filled.numel() for s in blocks]
    return [*sizes, stride - sum(sizes)]
