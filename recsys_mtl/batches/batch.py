"""The one structure that flows from encoded shards into a model."""

from dataclasses import dataclass

import pyarrow as pa
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor


@dataclass(frozen=True, slots=True)
class SurvivalTimes:
    """When B rows were at risk and what ended them; days of age, inclusive."""

    entry: Tensor
    """int64[B]"""
    exit: Tensor
    """int64[B]"""
    event: Tensor
    """int64[B], 0 where censored, else 1 + the number of the cause"""
    weight: Tensor
    """float32[B], 0 where the row has no such label"""


@dataclass(frozen=True, slots=True)
class Batch:
    """B encoded rows; order of bags, sequences, dense columns and tasks as in the `Layout`."""

    bags: KeyedJaggedTensor | None
    """KJT(`layout.bags`, stride B): int64 ids, int32 lengths; None without id features."""
    sequences: dict[str, KeyedJaggedTensor]
    """By sequence name: KJT(`<sequence>__<field>` keys, stride B), oldest to newest."""
    dense: Tensor
    """float32[B, Fd]"""
    labels: Tensor
    """float32[B, T], 0 where masked"""
    masks: Tensor
    """float32[B, T], 1 where the label counts"""
    weights: Tensor
    """float32[B, T], sample weight of each row and task"""
    row_id: pa.Array
    """int64 or string, [B]"""
    group: Tensor
    """int64[B], hash of the cluster key; all distinct without one"""
    time: Tensor
    """int64[B], microseconds UTC; 0 without time"""
    survival: SurvivalTimes | None = None
    """None when the layout has no survival label, or the rows have none."""

    @property
    def num_rows(self) -> int:
        """B."""
        return self.labels.shape[0]
