"""Columns of assembled rows in canonical form: int64 or string ids, and lists of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem

Family = Literal["int", "string"]
"""What an id column holds; `7` and `"7"` are different ids."""

_EXACT = 2**53
"""Largest magnitude at which every integer has a float of its own."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Lists of ids, one per row: row i holds `values[offsets[i]:offsets[i + 1]]`."""

    values: pa.Array
    """Canonical ids, [N]."""
    offsets: np.ndarray
    """int64[B + 1], from 0 to N."""

    @property
    def lengths(self) -> np.ndarray:
        """Elements of each row, int64[B]."""
        lengths: np.ndarray = np.diff(self.offsets)
        return lengths

    def where(self, keep: np.ndarray) -> "Ragged":
        """Only the elements with `keep`, bool[N]."""
        if keep.all():
            return self
        before = np.concatenate([[0], np.cumsum(keep)])
        return Ragged(self.values.filter(pa.array(keep)), before[self.offsets])

    def first(self, max_len: int) -> "Ragged":
        """At most the first `max_len` elements of each row."""
        if self.lengths.max(initial=0) <= max_len:
            return self
        return self.where(self._index() < max_len)

    def newest(self, max_len: int) -> "Ragged":
        """At most the last `max_len` elements of each row."""
        if self.lengths.max(initial=0) <= max_len:
            return self
        return self.where(self._index() >= np.repeat(self.lengths - max_len, self.lengths))

    def _index(self) -> np.ndarray:
        index: np.ndarray = np.arange(len(self.values))
        index -= np.repeat(self.offsets[:-1], self.lengths)
        return index


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """Append a DataError's problems instead of raising, each once, so that a run shows all."""
    try:
        yield
    except DataError as error:
        found = error.problems or [Problem("data", str(error))]
        problems += [problem for problem in found if problem not in problems]


def refuse(
    column: str, message: str, fix: str, code: str, row: int | np.integer | None = None
) -> DataError:
    """The error for one column; `{row}` in the message stands for the first faulty row."""
    place = None if row is None else int(row)
    return DataError(Problem(f"column {column!r}", message, fix, code, place))


def column_of(assembled: pa.Table, name: str) -> pa.Array:
    """A column as one array.

    Raises:
        DataError: if the table has no such column.
    """
    if name not in assembled.column_names:
        found = ", ".join(assembled.column_names[:12])
        raise refuse(
            name,
            f"not in the data; found {found}",
            "Deliver it, or correct the name in the feature spec.",
            "D001",
        )
    column = assembled.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def canonical_ids(array: pa.Array, column: str) -> pa.Array:
    """Ids as int64, string or dictionary of string; null (NaN too) is missing.

    Args:
        array: integers up to 64 bits, booleans, floats that hold integers, strings, or a
            dictionary of these; a null-typed array stays as it is.
        column: name for the message.

    Raises:
        DataError: for another type, or a value that is no exact integer.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _canonical_dictionary(array, column)
    if pa.types.is_string(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.int64())
    if pa.types.is_floating(kind):
        return _integers(array.cast(pa.float64()), column)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return array.cast(pa.int64())
    raise refuse(
        column,
        f"has type {kind}; an id is int8 to int64, uint8 to uint32, bool or string",
        "Convert it at the source.",
        "D001",
    )


def family_of(ids: pa.Array) -> Family | None:
    """Family of canonical ids; None when the array has no type, being all null."""
    if pa.types.is_null(ids.type):
        return None
    return "int" if pa.types.is_integer(ids.type) else "string"


def ragged_ids(array: pa.Array, column: str, separator: str | None = None) -> Ragged:
    """Lists of canonical ids; a null list is empty.

    Args:
        array: list or large_list of what `canonical_ids` takes, or a null-typed array; with a
            separator, strings, whose pieces are the ids (empty pieces are dropped).
        column: name for the messages.
        separator: splits strings.

    Raises:
        DataError: for another type.
    """
    if separator is not None and not pa.types.is_null(array.type):
        array = _split(array, column, separator)
    if pa.types.is_null(array.type):
        return Ragged(array.slice(0, 0), np.zeros(len(array) + 1, np.int64))
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise refuse(
            column,
            f"has type {array.type}; a list of ids is expected",
            "Deliver lists, or give the id_list a `separator`.",
            "D034",
        )
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    ragged = Ragged(canonical_ids(array.flatten(), column), offsets)
    return ragged if separator is None else ragged.where(_flags(pc.not_equal(ragged.values, "")))


def drop_nulls(ragged: Ragged) -> Ragged:
    """The lists without their null elements."""
    if not ragged.values.null_count:
        return ragged
    return ragged.where(_flags(ragged.values.is_valid()))


def with_ngrams(ragged: Ragged, size: int, column: str) -> Ragged:
    """Words, then pairs of neighbours, and so on up to `size` words, of each row.

    Words of a pair are joined by a space, so `ad` and `free` side by side are the id `ad free`.

    Raises:
        DataError: if ids are integers.
    """
    if size == 1 or not len(ragged.values):
        return ragged
    if family_of(ragged.values) != "string":
        text = "holds integers; n-grams are of words"
        raise refuse(column, text, "Remove `ngrams`, or deliver strings.", "D034")
    words = ragged.values
    if pa.types.is_dictionary(words.type):
        words = words.dictionary_decode()
    row = np.repeat(np.arange(len(ragged.lengths)), ragged.lengths)
    parts, rows = [words], [row]
    for n in range(2, size + 1):
        starts = np.flatnonzero(row[: max(len(row) - n + 1, 0)] == row[n - 1 :])
        neighbours = [words.take(pa.array(starts + k)) for k in range(n)]
        parts.append(pc.binary_join_element_wise(*neighbours, " "))
        rows.append(row[starts])
    owner = np.concatenate(rows)
    joined = pa.concat_arrays(parts).take(pa.array(np.argsort(owner, kind="stable")))
    lengths = np.bincount(owner, minlength=len(ragged.lengths))
    return Ragged(joined, np.concatenate([[0], np.cumsum(lengths)]))


def _canonical_dictionary(array: pa.Array, column: str) -> pa.Array:
    values = canonical_ids(array.dictionary, column)
    if pa.types.is_string(values.type) and not values.null_count:
        return pa.DictionaryArray.from_arrays(array.indices, values)
    return values.take(array.indices)


def _integers(floats: pa.Array, column: str) -> pa.Array:
    values = floats.to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    bad = ~missing & ((np.rint(values) != values) | (np.abs(values) > _EXACT))
    if bad.any():
        row = int(bad.argmax())
        raise refuse(
            column,
            f"{int(bad.sum())} ids are no integers (first {values[row]} at value {row:,})",
            "Ids are integers or strings; declare the column as kind 'number', or convert it.",
            "D001",
        )
    return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)


def _split(array: pa.Array, column: str, separator: str) -> pa.Array:
    strings = canonical_ids(array, column) if not pa.types.is_nested(array.type) else array
    if pa.types.is_dictionary(strings.type):
        strings = strings.dictionary_decode()
    if not pa.types.is_string(strings.type):
        raise refuse(
            column,
            f"has type {array.type}; with separator {separator!r} strings are expected",
            "Remove `separator` from the feature, or deliver strings.",
            "D034",
        )
    return pc.split_pattern(strings, separator)


def _flags(array: pa.Array) -> np.ndarray:
    flags: np.ndarray = array.fill_null(True).to_numpy(zero_copy_only=False)
    return flags
