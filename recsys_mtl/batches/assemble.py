"""Encoded rows to a Batch: one pass over columns, none over rows."""

from collections.abc import Sequence, Set

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.batches.batch import Batch, SurvivalTimes
from recsys_mtl.spec.layout import (
    GROUP,
    ROW_ID,
    SURVIVAL_COLUMNS,
    TIME,
    Layout,
    label_column,
    mask_column,
    outcome_columns,
    survival_column,
)


def columns_of(layout: Layout) -> list[str]:
    """Columns that a labelled batch is made of."""
    return [ROW_ID, GROUP, TIME, *_input_columns(layout), *outcome_columns(layout)]


def _input_columns(layout: Layout) -> list[str]:
    return [
        *(bag.name for bag in layout.bags),
        *(field for s in layout.sequences for field in s.fields),
        *layout.dense,
    ]


def to_batch(rows: pa.Table | pa.RecordBatch, layout: Layout, own: Layout | None = None) -> Batch:
    """Assemble B >= 1 encoded rows; torchrec looks nothing up in an empty batch.

    Args:
        rows: columns as `ingest.transform.encode` writes them, in any order and sliced or
            not; without label columns (rows to be scored) labels and masks are 0.
        layout: order of bags, sequences, dense columns and tasks.
        own: layout of the rows' source, where `layout` is that of several: what only the others
            have is missing (id 0, no list, no event, number 0), their labels are masked.

    Returns:
        Tensors that own their memory, but for `row_id`.

    Raises:
        KeyError: if a column of the layout is absent.
        pyarrow.ArrowInvalid: if a column holds nulls.
    """
    known = set(_input_columns(own or layout))
    num_rows = rows.num_rows
    bags = [
        _ids(_column(rows, bag.name)) if bag.name in known else _missing(num_rows, bag.is_list)
        for bag in layout.bags
    ]
    labels, masks = labels_of(rows, layout, own or layout)
    row_id = _column(rows, ROW_ID)
    return Batch(
        bags=_kjt([bag.name for bag in layout.bags], bags) if bags else None,
        sequences={
            s.name: _kjt(
                list(s.fields),
                [
                    _ids(_column(rows, field)) if field in known else _missing(num_rows, True)
                    for field in s.fields
                ],
            )
            for s in layout.sequences
        },
        dense=_matrix(rows, layout.dense, known),
        labels=labels,
        masks=masks,
        weights=torch.ones_like(labels),
        row_id=row_id,
        group=torch.from_numpy(_column(rows, GROUP).to_numpy().copy()),
        time=torch.from_numpy(_column(rows, TIME).to_numpy().copy()),
        survival=_survival(rows, layout),
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


def _missing(num_rows: int, is_list: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids of B rows whose source has no such input: none of a list, else the missing id."""
    if is_list:
        return np.empty(0, np.int64), np.zeros(num_rows, np.int32)
    return np.zeros(num_rows, np.int64), np.ones(num_rows, np.int32)


def _kjt(keys: list[str], columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> KeyedJaggedTensor:
    values = np.concatenate([ids for ids, _ in columns], dtype=np.int64)
    lengths = np.concatenate([length for _, length in columns], dtype=np.int32)
    return KeyedJaggedTensor(
        keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths)
    )


def _matrix(
    rows: pa.Table | pa.RecordBatch, names: Sequence[str], known: Set[str] | None = None
) -> Tensor:
    """float32[B, len(names)] of number or boolean columns; 0 for those that are not known."""
    matrix = np.zeros((rows.num_rows, len(names)), np.float32)
    for i, name in enumerate(names):
        if known is not None and name not in known:
            continue
        column = _column(rows, name)
        if column.null_count:
            raise pa.ArrowInvalid(f"column {name}: {column.null_count} nulls; encoded has none")
        matrix[:, i] = column.to_numpy(zero_copy_only=False)
    return torch.from_numpy(matrix)


def labels_of(
    rows: pa.Table | pa.RecordBatch, layout: Layout, own: Layout
) -> tuple[Tensor, Tensor]:
    """Labels, 0 where masked, and masks of encoded rows, float32[B, T] each; as in `to_batch`."""
    names = layout.task_names
    known = set(own.task_names)
    if not known or label_column(own.task_names[0]) not in rows.schema.names:
        zeros = torch.zeros(rows.num_rows, len(names))
        return zeros, zeros.clone()
    columns = {column(task) for task in known for column in (label_column, mask_column)}
    masks = _matrix(rows, [mask_column(name) for name in names], columns)
    return _matrix(rows, [label_column(name) for name in names], columns) * masks, masks


def _survival(rows: pa.Table | pa.RecordBatch, layout: Layout) -> SurvivalTimes | None:
    if layout.survival is None:
        return None
    names = [survival_column(layout.survival.name, part) for part in SURVIVAL_COLUMNS]
    if not set(names) <= set(rows.schema.names):
        return None
    *whole, weight = (torch.from_numpy(_column(rows, name).to_numpy().copy()) for name in names)
    entry, exit_, event = (days.long() for days in whole)
    return SurvivalTimes(entry, exit_, event, weight.float())
