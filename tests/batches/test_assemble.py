import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.batches.assemble import columns_of, to_batch

from .encoded import assert_equal_batches, make_layout, make_rows


def hand_rows() -> pa.Table:
    int_list = pa.list_(pa.int64())
    return pa.table(
        {
            "key__row_id": ["a", "b"],
            "key__group": [7, 8],
            "key__time": [100, 200],
            "user_id": [1, 2],
            "liked_topics": pa.array([[3, 4], []], int_list),
            "hour": [5, 6],
            "topic": [5, 6],
            "video_id": [7, 8],
            "saved": pa.array([[9], [10, 11]], int_list),
            "clicks__video": pa.array([[12, 13], [14]], int_list),
            "clicks__genre": pa.array([[22, 23], [24]], int_list),
            "buys__video": pa.array([[], [15]], int_list),
            "age": pa.array([0.5, -1.0], pa.float32()),
            "price": pa.array([2.0, 3.0], pa.float32()),
            "label__click": pa.array([1.0, 1.0], pa.float32()),
            "mask__click": [True, False],
            "label__buy": pa.array([0.0, 1.0], pa.float32()),
            "mask__buy": [True, True],
        }
    )


def test_values_are_key_major_and_lengths_follow() -> None:
    batch = to_batch(hand_rows(), make_layout())
    assert batch.bags is not None
    assert batch.bags.keys() == ["user_id", "liked_topics", "hour", "topic", "video_id", "saved"]
    assert batch.bags.values().tolist() == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 11]
    assert batch.bags.lengths().tolist() == [1, 1, 2, 0, 1, 1, 1, 1, 1, 1, 1, 2]
    clicks = batch.sequences["clicks"]
    assert clicks.values().tolist() == [12, 13, 14, 22, 23, 24]
    assert clicks.lengths().tolist() == [2, 1, 2, 1]
    assert batch.sequences["buys"].values().tolist() == [15]
    assert batch.sequences["buys"].lengths().tolist() == [0, 1]


def test_numbers_labels_and_keys() -> None:
    batch = to_batch(hand_rows(), make_layout())
    assert batch.dense.tolist() == [[0.5, 2.0], [-1.0, 3.0]]
    assert batch.masks.tolist() == [[1, 1], [0, 1]]
    assert batch.labels.tolist() == [[1, 0], [0, 1]], "a masked label is 0"
    assert batch.weights.tolist() == [[1, 1], [1, 1]]
    assert batch.row_id.to_pylist() == ["a", "b"]
    assert batch.group.tolist() == [7, 8]
    assert batch.time.tolist() == [100, 200]
    assert batch.dense.dtype == batch.labels.dtype == batch.masks.dtype == torch.float32


@given(start=st.integers(0, 20), length=st.integers(1, 20))
def test_sliced_rows_equal_copied_rows(start: int, length: int) -> None:
    """A sliced column keeps its parent's values: its offsets do not begin at 0."""
    sliced = make_rows(40).slice(start, length)
    copied = pa.Table.from_pylist(sliced.to_pylist(), schema=sliced.schema)
    layout = make_layout()
    assert_equal_batches(to_batch(sliced, layout), to_batch(copied, layout))
    assert_equal_batches(
        to_batch(sliced.combine_chunks().to_batches()[0], layout), to_batch(copied, layout)
    )


def test_chunks_and_column_order_do_not_matter() -> None:
    rows = make_rows(9)
    chunked = pa.concat_tables([rows.slice(0, 4), rows.slice(4, 5)])
    chunked = chunked.select(chunked.schema.names[::-1])
    assert_equal_batches(to_batch(chunked, make_layout()), to_batch(rows, make_layout()))


def test_rows_to_be_scored_have_neither_labels_nor_masks() -> None:
    layout = make_layout()
    rows = make_rows(3).drop_columns([c for c in columns_of(layout) if c.startswith("label__")])
    batch = to_batch(rows, layout)
    assert batch.labels.tolist() == batch.masks.tolist() == [[0, 0]] * 3
    assert batch.num_rows == 3


def test_one_row_is_a_batch() -> None:
    assert to_batch(make_rows(5).slice(4, 1), make_layout()).num_rows == 1


@pytest.mark.parametrize("column", ["user_id", "saved", "clicks__video", "age", "mask__buy"])
def test_nulls_are_refused(column: str) -> None:
    rows = make_rows(3)
    position = rows.schema.names.index(column)
    values = [None, *rows.column(column).to_pylist()[1:]]
    broken = rows.set_column(position, column, pa.array(values, rows.schema.types[position]))
    with pytest.raises(pa.ArrowInvalid):
        to_batch(broken, make_layout())


def test_an_absent_column_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="clicks__genre"):
        to_batch(make_rows(3).drop_columns(["clicks__genre"]), make_layout())
