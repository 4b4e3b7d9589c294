"""Side tables: one row per key, joined to rows by a vectorised lookup."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of, refuse
from recsys_mtl.ingest.raw import NOTHING, locate, located, read_rows
from recsys_mtl.spec.feature_spec import FeatureSpec


@dataclass(frozen=True, slots=True)
class SideFiles:
    """Files of one side table; the stamps make a changed file another table to the cache."""

    paths: tuple[Path, ...]
    format: str
    stamps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, paths: tuple[Path, ...], file_format: str) -> "SideFiles":
        """The files as they are now."""
        stats = [path.stat() for path in paths]
        return cls(paths, file_format, tuple((s.st_mtime_ns, s.st_size) for s in stats))


def side_columns(spec: FeatureSpec, source: str, side: str) -> tuple[str, ...]:
    """Columns of a side table that features read, each once."""
    prefix = f"{side}."
    columns = [f.column or f.name for f in spec.features_of(source)]
    found = [c.removeprefix(prefix) for c in columns if c.startswith(prefix)]
    return tuple(dict.fromkeys(found))


def join_side(
    rows: pa.Table, side: str, key: str, files: SideFiles, columns: tuple[str, ...]
) -> tuple[pa.Table, int]:
    """Add a side table's columns as `<side>.<column>`; a missing match is a missing value.

    Args:
        rows: B rows.
        side: name of the side table.
        key: column of both.
        files: of the side table, with one row per key; rows without a key are never matched.
        columns: those to add.

    Returns:
        The rows, and how many of them matched none.

    Raises:
        DataError: if the side table is damaged, lacks a column, repeats a key, or has keys of
            another type.
    """
    table, keys = _side_table(files, key, columns)
    own = _keys(rows, key)
    if own.type != keys.type and not pa.types.is_null(own.type):
        message = f"holds {own.type}, in side table {side!r} {keys.type}"
        raise refuse(key, message, f"Deliver the key with one type. {NOTHING}", "D033")
    match = pc.index_in(own.cast(keys.type), value_set=keys, skip_nulls=True)
    for name in columns:
        rows = rows.append_column(f"{side}.{name}", column_of(table, name).take(match))
    return rows, int(match.null_count)


def _keys(table: pa.Table, key: str) -> pa.Array:
    keys = canonical_ids(column_of(table, key), key)
    return keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys


@lru_cache(maxsize=32)
def _side_table(files: SideFiles, key: str, columns: tuple[str, ...]) -> tuple[pa.Table, pa.Array]:
    """A side table's columns and canonical keys; read once per process."""
    wanted = list(dict.fromkeys((key, *columns)))
    problems: list[Problem] = []
    parts = []
    for path in files.paths:
        with collecting(problems), located(path):
            parts.append(read_rows(path, files.format, columns=wanted))
    if problems:
        raise DataError(problems)
    first = files.paths[0]
    try:
        table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        message = f"its files disagree about a column's type: {str(error).splitlines()[0]}"
        fix = f"Rewrite them with one type. {NOTHING}"
        raise DataError(Problem(str(first), message, fix, "D033")) from None
    with located(first):
        keys = _keys(table, key)
    known = keys.drop_null()
    repeats = len(known) - pc.count_distinct(known).as_py()
    if repeats:
        message = f"repeats {repeats:,} keys; a side table has one row per key"
        problem = Problem(f"column {key!r}", message, "Keep one row per key.", "D007")
        raise DataError(locate(problem, first))
    return table, keys
