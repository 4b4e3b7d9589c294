"""The shard plan: made once, before any work, from the bytes of the input."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from recsys_mtl.artifacts.commit import sha256_file
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.errors import ConfigError, DataError, Problem

Format = Literal["parquet", "csv"]


@dataclass(frozen=True, slots=True)
class PlanFile:
    """One input file, by path relative to the data root."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The rows that become one shard."""

    index: int
    path: Path
    """Absolute, for the worker; never part of a fingerprint."""
    row_groups: tuple[int, ...]
    """Row groups of the Parquet file; empty for CSV, whose shard is the whole file."""
    first_row: int
    """Number of the shard's first row among all rows of the plan."""
    rows: int
    sha256: str
    """Of the whole file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Input files and shards. `fp` covers (path, sha256, rows) of the files, not the shard size."""

    files: tuple[PlanFile, ...]
    tasks: tuple[ShardTask, ...]
    fp: str

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class _Scan:
    path: Path
    file: PlanFile
    group_rows: tuple[int, ...]


def make_plan(
    root: Path, files: Sequence[Path], shard_rows: int, format: Format = "parquet"
) -> Plan:
    """Plan shards over files in the order of their relative paths.

    Parquet is split at row-group boundaries, so that a shard has at most `shard_rows` rows unless
    one group alone has more. A CSV file is one shard.

    Args:
        root: folder that the files are below.
        files: input files in any order.
        shard_rows: rows of one shard, about.
        format: of all files.

    Raises:
        ConfigError: if a file is not below `root`.
        DataError: if a file is absent, damaged or a copy of another, or if there is no row; names
            all such files at once.
    """
    named = sorted((_relative(root, path), path) for path in files)
    found = [_scan(name, path, format) for name, path in named]
    scans = [scan for scan in found if isinstance(scan, _Scan)]
    problems = [problem for problem in found if isinstance(problem, Problem)] + _copies(scans)
    if problems:
        raise DataError(problems)
    if not any(scan.file.rows for scan in scans):
        raise DataError(_empty(root, named))
    listed = tuple(scan.file for scan in scans)
    fp = hashlib.sha256(canonical([asdict(file) for file in listed])).hexdigest()
    return Plan(listed, _tasks(scans, shard_rows, format), fp)


def verify_plan(plan: Plan) -> None:
    """Check that no input file changed since the plan was made; call it before publishing.

    Raises:
        DataError: naming each file whose sha256 differs.
    """
    digests = {task.path: task.sha256 for task in plan.tasks}
    changed = [
        path
        for path, sha256 in digests.items()
        if not path.is_file() or sha256_file(path) != sha256
    ]
    if changed:
        raise DataError(
            [
                Problem(
                    str(path),
                    "the file changed while the run was reading it; nothing was published",
                    "Rerun when the file is complete.",
                    "D022",
                )
                for path in changed
            ]
        )


def _relative(root: Path, path: Path) -> str:
    try:
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(root)).as_posix()
    except ValueError:
        raise ConfigError(
            Problem(str(path), f"is not below data.root ({root})", "Set data.root to its folder.")
        ) from None


def _scan(name: str, path: Path, format: Format) -> _Scan | Problem:
    try:
        if path.stat().st_size == 0:
            return Problem(
                str(path),
                f"the file is empty (0 bytes); a {format} file was expected",
                "Write it again at the source, or remove it.",
                "D014",
            )
        group_rows = _parquet_rows(path) if format == "parquet" else (_csv_rows(path),)
        return _Scan(
            path.absolute(), PlanFile(name, sha256_file(path), sum(group_rows)), group_rows
        )
    except FileNotFoundError:
        return Problem(str(path), "there is no such file", "Check data.root and the path.", "D024")
    except (pa.ArrowException, OSError) as error:
        return Problem(
            str(path),
            f"cannot be read as {format}: {_first_line(error)}; it is cut short, damaged or of"
            " another format",
            "Write it again at the source, or remove it.",
            "D020",
        )


def _parquet_rows(path: Path) -> tuple[int, ...]:
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        return tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))


def _csv_rows(path: Path) -> int:
    with pc.open_csv(path) as head:
        first = head.schema.names[0]
    # Only one column is converted, and as bytes, so that counting never fails on a value's type.
    convert = pc.ConvertOptions(include_columns=[first], column_types={first: pa.binary()})
    with pc.open_csv(path, convert_options=convert) as reader:
        return sum(batch.num_rows for batch in reader)


def _tasks(scans: Sequence[_Scan], shard_rows: int, format: Format) -> tuple[ShardTask, ...]:
    tasks: list[ShardTask] = []
    first_row = 0
    for scan in scans:
        for groups in _split(scan.group_rows, shard_rows):
            rows = sum(scan.group_rows[g] for g in groups)
            read = groups if format == "parquet" else ()
            tasks.append(ShardTask(len(tasks), scan.path, read, first_row, rows, scan.file.sha256))
            first_row += rows
    return tuple(tasks)


def _split(group_rows: Sequence[int], shard_rows: int) -> list[tuple[int, ...]]:
    """Runs of consecutive row groups, each as long as fits; groups without rows are left out."""
    shards: list[list[int]] = []
    taken = 0
    for group, rows in enumerate(group_rows):
        if rows == 0:
            continue
        if not shards or taken + rows > shard_rows:
            shards.append([])
            taken = 0
        shards[-1].append(group)
        taken += rows
    return [tuple(shard) for shard in shards]


def _copies(scans: Sequence[_Scan]) -> list[Problem]:
    first: dict[str, PlanFile] = {}
    problems = []
    for scan in scans:
        original = first.setdefault(scan.file.sha256, scan.file)
        if scan.file.rows and original is not scan.file:
            problems.append(
                Problem(
                    str(scan.path),
                    f"holds the same bytes as {original.path}; its {scan.file.rows:,} rows would"
                    " count twice",
                    "Remove one of the two.",
                    "D070",
                )
            )
    return problems


def _empty(root: Path, named: Sequence[tuple[str, Path]]) -> Problem:
    where = str(named[0][1]) if named else str(root)
    found = f"{len(named)} files hold no row" if named else "no file was found"
    return Problem(
        where,
        f"the window is empty: {found}; at least one row was expected",
        "Choose another interval, or check data.root and the path of the file set.",
        "D041",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(". ")
