"""Labels and their masks: what was observed, is known, and is final."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of, family_of, refuse
from recsys_mtl.ingest.numbers import float_values
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import BinaryLabel
from recsys_mtl.spec.layout import TIME


def encode_labels(
    assembled: pa.Table, tasks: tuple[BinaryLabel, ...], as_of_us: int | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label and mask of each task.

    The mask holds where `observed` holds, the label is not null, `time + maturity <= as_of`, and
    the parent's mask holds. A child's label is its own outcome, not the product with its parent.

    Args:
        assembled: rows with the label columns and `key__time`.
        tasks: labels of one source.
        as_of_us: time of the snapshot; may be None when no label has a maturity.

    Returns:
        By task: float32[B] in {0, 1}, 0 where masked, and bool[B].

    Raises:
        DataError: if a column is absent, or holds anything but the two outcomes and null.
        ValueError: if a maturity is to be judged without `as_of_us`.
    """
    problems: list[Problem] = []
    outcomes: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    for task in tasks:
        with collecting(problems):
            outcomes[task.name] = outcome(assembled, task)
            masks[task.name] = _own_mask(assembled, task, outcomes[task.name], as_of_us)
    if problems:
        raise DataError(problems)
    joint = {task.name: _with_parents(task, tasks, masks) for task in tasks}
    return {
        name: (np.where(joint[name], outcomes[name], 0).astype(np.float32), joint[name])
        for name in outcomes
    }


def outcome(assembled: pa.Table, task: BinaryLabel) -> np.ndarray:
    """A label's raw outcome, float64[B] in {0, 1}, NaN where null.

    Raises:
        DataError: if the column is absent or holds another value.
    """
    column = column_of(assembled, task.column)
    if task.positive is not None:
        return _is_positive(column, task)
    values = float_values(column, task.column)
    bad = ~np.isnan(values) & (values != 0) & (values != 1)
    if bad.any():
        row = int(bad.argmax())
        raise refuse(
            task.column,
            f"{int(bad.sum()):,} rows hold no label (first {values[row]:g} at row {{row}});"
            " a binary label is 0, 1 or null",
            "Map the value at the source, or list the values that mean 1 under `positive`.",
            "D005",
            row,
        )
    return values


def _is_positive(column: pa.Array, task: BinaryLabel) -> np.ndarray:
    values = canonical_ids(column, task.column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kinds = {"int" if isinstance(v, int) else "string" for v in task.positive or ()}
    if family_of(values) is not None and kinds != {family_of(values)}:
        raise refuse(
            task.column,
            f"label {task.name!r}: holds {values.type}, but `positive` lists {task.positive}",
            "Write numbers for an integer column and quoted strings for a string column.",
            "D005",
        )
    if family_of(values) is None:
        return np.full(len(values), np.nan)
    positive = pc.is_in(values, value_set=pa.array(task.positive, values.type))
    hit = positive.to_numpy(zero_copy_only=False)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, hit, np.nan)


def _own_mask(
    assembled: pa.Table, task: BinaryLabel, values: np.ndarray, as_of_us: int | None
) -> np.ndarray:
    mask: np.ndarray = ~np.isnan(values)
    if task.observed is not None:
        column = task.observed.column
        mask &= float_values(column_of(assembled, column), column) == task.observed.equals
    maturity_us = duration_us(task.maturity)
    if maturity_us:
        if as_of_us is None:
            raise ValueError(f"label {task.name!r} has a maturity; pass as_of_us")
        times = column_of(assembled, TIME).fill_null(0).to_numpy()
        mask &= times <= as_of_us - maturity_us
    return mask


def _with_parents(
    task: BinaryLabel, tasks: tuple[BinaryLabel, ...], masks: dict[str, np.ndarray]
) -> np.ndarray:
    by_name = {t.name: t for t in tasks}
    mask: np.ndarray = masks[task.name]
    above = task.parent
    while above is not None:
        mask, above = mask & masks[above], by_name[above].parent
    return mask
