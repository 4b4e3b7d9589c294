"""Given vectors become one number each; what is no vector is refused with its row."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.vectors import read_vectors
from recsys_mtl.spec.feature_spec import VectorFeature

IMAGE = VectorFeature(kind="vector", name="image", dim=3)
ROWS = [[1.0, 2.0, 3.0], None, [-4.0, 0.5, 6.0]]
TYPES = [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)]


def table(rows, kind=None):
    return pa.table({"image": pa.array(rows, kind)})


@pytest.mark.parametrize("kind", TYPES)
def test_rows_without_a_vector_are_zeros(kind):
    vectors, present = read_vectors(table(ROWS, kind), IMAGE)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2, 3], [0, 0, 0], [-4, 0.5, 6]]
    assert present.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", TYPES)
def test_a_slice_reads_its_own_rows(kind):
    vectors, _ = read_vectors(table([[9.0, 9, 9], *ROWS], kind).slice(1, 3), IMAGE)
    assert vectors[0].tolist() == [1, 2, 3]
    assert vectors[2].tolist() == [-4, 0.5, 6]


def test_a_column_of_nothing_but_null_is_zeros():
    vectors, present = read_vectors(table([None, None]), IMAGE)
    assert vectors.shape == (2, 3)
    assert not vectors.any() and not present.any()


@pytest.mark.parametrize(
    ("rows", "row", "text"),
    [
        ([None, [1.0, 2.0, 3.0], [1.0, 2.0]], 2, "1 vectors have another length than 3"),
        ([[], [1.0, 2.0, 3.0]], 0, "1 vectors have another length than 3"),
        ([None, [1.0, None, 3.0]], 1, "1 elements are null or not finite"),
        ([[1.0, 2.0, 3.0], None, [1.0, float("nan"), 3.0]], 2, "1 elements are null"),
        ([[1.0, 2.0, 1e300]], 0, "1 elements are null or not finite"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_row(rows, row, text):
    with pytest.raises(DataError, match=text) as caught:
        read_vectors(table(rows, pa.list_(pa.float64())), IMAGE)
    assert caught.value.problems[0].row == row


@pytest.mark.parametrize("column", [pa.array([1.0]), pa.array(["a"]), pa.array([["a", "b", "c"]])])
def test_other_types_are_refused(column):
    with pytest.raises(DataError, match="has type"):
        read_vectors(pa.table({"image": column}), IMAGE)
