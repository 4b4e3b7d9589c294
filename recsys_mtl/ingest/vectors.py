"""Given vectors, for example embeddings of images or texts: one list of floats per row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import column_of, refuse
from recsys_mtl.ingest.numbers import float_values
from recsys_mtl.spec.feature_spec import VectorFeature

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
"""Tests of the types that a vector may come as."""


def read_vectors(assembled: pa.Table, feature: VectorFeature) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of B rows.

    Returns:
        float32[B, dim], zeros where the row has none, and whether it has one, bool[B].

    Raises:
        DataError: if the column is absent or no list of numbers, a vector has another length, or
            an element is null or not finite in float32.
    """
    column = feature.column or feature.name
    array = column_of(assembled, column)
    vectors = np.zeros((len(array), feature.dim), np.float32)
    if pa.types.is_null(array.type):
        return vectors, np.zeros(len(array), bool)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        values = float_values(_flat(array, feature, column), column).astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        row = np.flatnonzero(present)[bad.argmax() // feature.dim]
        text = f"{int(bad.sum()):,} elements are null or not finite (first at row {{row}})"
        fix = "Write null for a row whose vector is not known."
        raise refuse(column, text, fix, "D052", row)
    vectors[present] = values.reshape(-1, feature.dim)
    return vectors, present


def _flat(array: pa.Array, feature: VectorFeature, column: str) -> pa.Array:
    """Elements of the rows that are not null."""
    kind = array.type
    if not any(is_list(kind) for is_list in LISTS):
        text = f"has type {kind}; a vector is a list of {feature.dim} numbers"
        raise refuse(column, text, "Deliver lists, or declare the column as a number.", "D034")
    # Of a fixed-size list the elements of null rows are flattened too.
    present = array.drop_null()
    lengths = pc.list_value_length(present).to_numpy(zero_copy_only=False)
    wrong = lengths != feature.dim
    if wrong.any():
        at = int(wrong.argmax())
        row = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))[at]
        text = f"{int(wrong.sum()):,} vectors have another length than {feature.dim} (first at row "
        text += f"{{row}}: {lengths[at]})"
        fix = "Correct `dim`, or write null for a row whose vector is not known."
        raise refuse(column, text, fix, "D034", row)
    return present.flatten()
