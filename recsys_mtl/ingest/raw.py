"""Raw Parquet and CSV files: reading the columns that a spec names, and refusing what is absent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os.path import isabs
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.spec.suggest import did_you_mean

NOTHING = "Nothing was published."


def read_rows(
    path: Path,
    file_format: str,
    row_groups: tuple[int, ...] = (),
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read raw rows, with page checksums verified where the file has them.

    Args:
        path: one file.
        file_format: `parquet` or `csv`.
        row_groups: of a Parquet file; all when none are named.
        columns: in the order of the result; all when absent.

    Raises:
        DataError: if the file is damaged, or lacks columns (all of them are named).
    """
    with _readable(path):
        if file_format == "csv":
            table = csv.read_csv(path)
            return table if columns is None else table.select(_present(path, columns, table.schema))
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            wanted = None if columns is None else _present(path, columns, file.schema_arrow)
            groups = row_groups or range(file.num_row_groups)
            table = file.read_row_groups(groups, columns=wanted)
    return table if wanted is None else table.select(wanted)


def first_row_of(path: Path, row_groups: tuple[int, ...]) -> int:
    """Number of rows in the file before its first named row group; 0 when none are named.

    Raises:
        DataError: if the file is damaged.
    """
    with _readable(path):
        if not row_groups:
            return 0
        with pq.ParquetFile(path) as file:
            return sum(file.metadata.row_group(g).num_rows for g in range(min(row_groups)))


def missing_column(path: Path, name: str, present: Sequence[str]) -> Problem:
    """D001 for one column."""
    message = f"column {name!r} is missing{did_you_mean(name, present)}"
    fix = f"Deliver it, or correct the name in the feature spec. {NOTHING}"
    return Problem(str(path), message, fix, "D001")


@contextmanager
def located(path: Path, file_rows: np.ndarray | None = None) -> Iterator[None]:
    """Name the file in data errors of the body, and its rows.

    Args:
        path: the file that the rows came from, absolute.
        file_rows: int64[B], each row's number in the file; as they are when absent.
    """
    try:
        yield
    except DataError as error:
        problems = error.problems or [Problem("data", str(error))]
        raise DataError([locate(p, path, file_rows) for p in problems]) from error


def locate(problem: Problem, path: Path, file_rows: np.ndarray | None = None) -> Problem:
    """The problem with its file and its row in that file, unless it names a file already."""
    if isabs(problem.where):
        return problem
    fix = problem.fix if NOTHING in problem.fix else f"{problem.fix} {NOTHING}".strip()
    row = problem.row
    if row is not None and file_rows is not None:
        row = int(file_rows[row])
    return replace(problem, where=f"{path}: {problem.where}", fix=fix, row=row)


def _present(path: Path, columns: Sequence[str], schema: pa.Schema) -> list[str]:
    problems = [missing_column(path, n, schema.names) for n in columns if n not in schema.names]
    for name in columns:
        if schema.names.count(name) > 1:
            message = f"there are {schema.names.count(name)} columns {name!r}; one was expected"
            problems.append(Problem(str(path), message, f"Rename the others. {NOTHING}", "D001"))
    if problems:
        raise DataError(problems)
    return list(columns)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        fix = f"Deliver the file again. {NOTHING}"
        raise DataError(Problem(str(path), f"cannot be read: {text}", fix, "D020")) from None
