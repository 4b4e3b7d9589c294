"""Daily files of a delivery log as one log, whose faults are told by file and row."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import collecting, column_of, family_of
from recsys_mtl.ingest.delivery import AD_GROUP, OPTIONAL, REQUIRED, STATIC, typed
from recsys_mtl.ingest.raw import NOTHING, locate, located, read_rows
from recsys_mtl.spec.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class DeliveryFiles:
    """The rows of F files, in the order of the files."""

    table: pa.Table
    """Columns of one type each, as `delivery.typed` reads them; optional ones in all files or
    none."""
    paths: tuple[Path, ...]
    first_rows: np.ndarray
    """int64[F]: row of the table at which each file begins."""

    @contextmanager
    def located(self) -> Iterator[None]:
        """Name the file, and the row in it, in data errors of the body about rows of the table.

        A fault without a row is one of all files, and names their folder.
        """
        try:
            yield
        except DataError as error:
            problems = error.problems or [Problem("data", str(error))]
            raise DataError([self._locate(problem) for problem in problems]) from error

    def _locate(self, problem: Problem) -> Problem:
        if problem.row is None:
            return locate(problem, self.paths[0].parent)
        # Of files without rows, which begin where the next one does, the last is the right one.
        file = int(np.searchsorted(self.first_rows, problem.row, side="right")) - 1
        own = replace(problem, row=problem.row - int(self.first_rows[file]))
        return locate(own, self.paths[file])


def read_log(daily: Mapping[date, Sequence[Path]], file_format: str) -> DeliveryFiles:
    """Read the files of all days.

    Args:
        daily: files by the day whose rows they hold, in order.
        file_format: `parquet` or `csv`.

    Returns:
        The log; its rows are as they are in the files, unjudged but for what is raised.

    Raises:
        DataError: with the problems of all files: D020 if one cannot be read, D001 for a column
            that is absent, of another type, or optional and in some files only, D033 for ids that
            are integers here and strings there, D043 for rows of another day than their file's.
    """
    paths = tuple(path for files in daily.values() for path in files)
    problems: list[Problem] = []
    tables: list[pa.Table] = []
    for path in paths:
        with collecting(problems), located(path):
            tables.append(_read(path, file_format))
    if problems:
        raise DataError(problems)
    problems += [*_uneven_columns(paths, tables), *_mixed_ids(paths, tables)]
    if problems:
        raise DataError(problems)
    sizes = np.array([table.num_rows for table in tables])
    joined = pa.concat_tables(tables, promote_options="default")
    log = DeliveryFiles(joined, paths, np.cumsum(sizes) - sizes)
    days = [day for day, files in daily.items() for _ in files]
    with log.located():
        _check_days(joined, np.repeat(np.array(days, "datetime64[D]"), sizes))
    return log


def _read(path: Path, file_format: str) -> pa.Table:
    table = read_rows(path, file_format)
    problems: list[Problem] = []
    columns: dict[str, pa.Array] = {}
    for name in (*REQUIRED, *OPTIONAL):
        if name in table.column_names:
            with collecting(problems):
                columns[name] = typed(column_of(table, name), name)
        elif name in REQUIRED:
            text = f"is missing{did_you_mean(name, table.column_names)}"
            fix = "Columns of a delivery log have fixed names; deliver it."
            problems.append(Problem(f"column {name!r}", text, fix, "D001"))
    if problems:
        raise DataError(problems)
    return pa.table(columns)


def _uneven_columns(paths: Sequence[Path], tables: Sequence[pa.Table]) -> Iterator[Problem]:
    """An optional column that is in some files only: nobody knows what it would say in others."""
    for name in OPTIONAL:
        has = [name in table.column_names for table in tables]
        if any(has) and not all(has):
            path, other = paths[has.index(False)], paths[has.index(True)]
            text = f"is missing, but {other.name} has it"
            fix = f"Deliver it in all files or in none. {NOTHING}"
            yield Problem(f"{path}: column {name!r}", text, fix, "D001")


def _mixed_ids(paths: Sequence[Path], tables: Sequence[pa.Table]) -> Iterator[Problem]:
    """Integers and strings in one column of ids; told for the first file that differs."""
    for name in (*STATIC, AD_GROUP):
        if not all(name in table.column_names for table in tables):
            continue
        families = [family_of(table[name].chunk(0)) if table.num_rows else None for table in tables]
        known = [family for family in families if family is not None]
        for i, family in enumerate(families):
            if family is not None and family != known[0]:
                other = paths[families.index(known[0])]
                text = f"holds {family} ids, but {known[0]} ids in {other}; 7 and '7' are different"
                fix = f"Rewrite the files with one type. {NOTHING}"
                yield Problem(f"{paths[i]}: column {name!r}", text, fix, "D033")
                break


def _check_days(log: pa.Table, file_day: np.ndarray) -> None:
    day = log["day"].combine_chunks().to_numpy(zero_copy_only=False)
    # A row without a day is not equal to any, and told of by itself.
    other = ~np.isnat(day) & (day != file_day)
    if other.any():
        row = int(other.argmax())
        text = f"{int(other.sum()):,} rows are of another day than their file "
        text += f"(first {day[row]} at row {{row}})"
        fix = "Cut the log by the days that the column says."
        raise DataError(Problem("column 'day'", text, fix, "D043", row))
