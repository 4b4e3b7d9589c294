"""Encoded rows to a Batch: one pass over columns, none over rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.spec.layout import GROUP, ROW_ID, TIME, Layout, label_column, mask_column


def columns_of(layout: Layout) -> list[str]:
    """Columns that a labelled batch is made of."""
    return [
        ROW_ID,
        GROUP,
        TIME,
        *(bag.name for bag in layout.bags),
        *(field for s in layout.sequences for field in s.fields),
        *layout.dense,
        *(column(task) for task in layout.task_names for column in (label_column, mask_column)),
    ]


def to_batch(rows: pa.Table | pa.RecordBatch, layout: Layout) -> Batch:
    """Assemble B >= 1 encoded rows; torchrec looks nothing up in an empty batch.

    Args:
        rows: columns as `ingest.transform.encode` writes them, in any order and sliced or
            not; without label columns (rows to be scored) labels and masks are 0.
        layout: order of bags, sequences, dense columns and tasks.

    Returns:
        Tensors that own their memory, but for `row_id`.

    Raises:
        KeyError: if a column of the layout is absent.
        pyarrow.ArrowInvalid: if a column holds nulls.
    """
    bags = [_ids(_column(rows, bag.name)) for bag in layout.bags]
    labels, masks = _labels(rows, layout)
    row_id = _column(rows, ROW_ID)
    return Batch(
        bags=_kjt([bag.name for bag in layout.bags], bags) if bags else None,
        sequences={
            s.name: _kjt(list(s.fields), [_ids(_column(rows, field)) for field in s.fields])
            for s in layout.sequences
        },
        dense=_matrix(rows, layout.dense),
        labels=labels,
        masks=masks,
        weights=torch.ones_like(labels),
        row_id=row_id,
        group=torch.from_numpy(_column(rows, GROUP).to_numpy().copy()),
        time=torch.from_numpy(_column(rows, TIME).to_numpy().copy()),
    )


def _column(rows: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    column = rows.column(name)
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def _ids(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Values int64[N] and lengths int32[B] of an id or list column."""
    if not pa.types.is_list(column.type):
        return column.to_numpy(), np.ones(len(column), np.int32)
    if column.null_count:
        raise pa.ArrowInvalid(f"{column.null_count} lists are null; encoded rows have none")
    offsets = column.offsets.to_numpy()
    # A sliced column keeps its parent's values; only these belong to its rows.
    first, last = (offsets[0], offsets[-1]) if len(offsets) else (0, 0)
    return column.values.slice(first, last - first).to_numpy(), np.diff(offsets)


def _kjt(keys: list[str], columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> KeyedJaggedTensor:
    values = np.concatenate([ids for ids, _ in columns], dtype=np.int64)
    lengths = np.concatenate([length for _, length in columns], dtype=np.int32)
    return KeyedJaggedTensor(
        keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths)
    )


def _matrix(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Tensor:
    """float32[B, len(names)] of number or boolean columns."""
    matrix = np.empty((rows.num_rows, len(names)), np.float32)
    for i, name in enumerate(names):
        column = _column(rows, name)
        if column.null_count:
            raise pa.ArrowInvalid(f"column {name}: {column.null_count} nulls; encoded has none")
        matrix[:, i] = column.to_numpy(zero_copy_only=False)
    return torch.from_numpy(matrix)


def _labels(rows: pa.Table | pa.RecordBatch, layout: Layout) -> tuple[Tensor, Tensor]:
    names = layout.task_names
    if label_column(names[0]) not in rows.schema.names:
        zeros = torch.zeros(rows.num_rows, len(names))
        return zeros, zeros.clone()
    masks = _matrix(rows, [mask_column(name) for name in names])
    return _matrix(rows, [label_column(name) for name in names]) * masks, masks
