from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import (
    canonical_ids,
    collecting,
    drop_nulls,
    ragged_ids,
    refuse,
    with_ngrams,
)

LISTS = st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=6), max_size=8)


def lists_of(ragged) -> list[list]:
    values, edges = ragged.values.to_pylist(), ragged.offsets.tolist()
    return [values[a:b] for a, b in pairwise(edges)]


@given(LISTS, st.integers(1, 7), st.integers(0, 3))
def test_cuts_keep_the_first_or_the_newest_of_each_row(rows, most, skip):
    array = pa.array(rows, pa.list_(pa.int16()))[skip:]
    plain = [row or [] for row in rows[skip:]]
    ragged = ragged_ids(array, "c")
    assert lists_of(ragged) == plain
    assert lists_of(ragged.first(most)) == [row[:most] for row in plain]
    assert lists_of(ragged.newest(most)) == [row[-most:] for row in plain]
    known = [[v for v in row if v is not None] for row in plain]
    assert lists_of(drop_nulls(ragged)) == known
    assert lists_of(drop_nulls(ragged).first(most)) == [row[:most] for row in known]


def test_pieces_of_strings_lose_the_empty_ones():
    ragged = ragged_ids(pa.array(["a|b||", "", None, "|", " c"]), "c", "|")
    assert lists_of(ragged) == [["a", "b"], [], [], [], [" c"]]


def test_null_lists_hide_what_lies_under_them():
    """A null row may still span values in the buffers; they are not its ids."""
    array = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5], pa.int32()),
        pa.array([1, 2, 3, 4, 5]),
        mask=pa.array([False, True, False]),
    )
    assert lists_of(ragged_ids(array, "c")) == [[1, 2], [], [5]]


def test_floats_become_integers_exactly():
    ids = canonical_ids(pa.array([2.0**53, -3.0, None, np.nan]), "c")
    assert ids.type == pa.int64()
    assert ids.to_pylist() == [2**53, -3, None, None]
    with pytest.raises(DataError, match=r"1 ids are no integers \(first 9007199254740994.0"):
        canonical_ids(pa.array([2.0**53 + 2]), "c")


def test_collecting_keeps_each_problem_once():
    problems: list[Problem] = []
    for _ in range(2):
        with collecting(problems):
            raise refuse("c", "is bad", "Mend it.", "D001")
    assert [str(p) for p in problems] == ["column 'c': is bad. Mend it. [D001]"]


def ngrams(row: list[str], size: int) -> list[str]:
    return [" ".join(row[i : i + n]) for n in range(1, size + 1) for i in range(len(row) - n + 1)]


WORDS = st.lists(st.lists(st.sampled_from(["ad", "free", "now"]), max_size=5), max_size=6)


@given(WORDS, st.integers(1, 5))
def test_ngrams_are_of_neighbours_in_a_row(rows, size):
    ragged = ragged_ids(pa.array(rows, pa.list_(pa.string())), "c")
    found = with_ngrams(ragged, size, "c")
    assert lists_of(found) == [ngrams(row, size) for row in rows]


def test_ngrams_of_a_dictionary_are_those_of_its_words():
    words = pa.array(["ad", "free", "ad", "now"]).dictionary_encode()
    lists = pa.ListArray.from_arrays(pa.array([0, 3, 4], pa.int32()), words)
    assert lists_of(with_ngrams(ragged_ids(lists, "c"), 2, "c")) == [
        ["ad", "free", "ad", "ad free", "free ad"],
        ["now"],
    ]


def test_ngrams_of_integers_are_refused():
    with pytest.raises(DataError, match="n-grams are of words"):
        with_ngrams(ragged_ids(pa.array([[1, 2]]), "c"), 2, "c")
