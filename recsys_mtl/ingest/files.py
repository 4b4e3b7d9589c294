"""Which files a run reads: daily partitions of a window, side tables, behaviour logs."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from recsys_mtl.artifacts.commit import sha256_file
from recsys_mtl.errors import DataError, NothingToDoError, Problem
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.interval import DAY_US, Interval, day_start_us, local_day, parse_end
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import DataConfig, FileSet


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Input files of one run."""

    root: Path
    rows: tuple[Path, ...]
    row_format: str
    sides: dict[str, tuple[Path, ...]]
    events: dict[str, tuple[Path, ...]]
    formats: dict[str, str]
    """Format of each side table and log."""

    def side_fp(self) -> str:
        """Fingerprint of the side tables and logs: relative paths and sha256 of every file."""
        return fingerprint(
            {
                name: [[p.relative_to(self.root).as_posix(), sha256_file(p)] for p in paths]
                for name, paths in sorted({**self.sides, **self.events}.items())
            }
        )


def resolve_files(
    loaded: Loaded, interval_end: str | None, rows: FileSet | None = None, days: int | None = None
) -> tuple[SourceFiles, Interval | None]:
    """Find the files of a window.

    Args:
        loaded: the pipeline.
        interval_end: end of the window as `parse_end` reads it; when absent, the day after the
            newest partition, or None without daily partitions.
        rows: other rows than `data.rows`, e.g. those to score.
        days: length of the window; that of the pipeline when absent.

    Returns:
        Files in time order, and the window (None: everything, whenever it happened).

    Raises:
        DataError: naming files or days that are missing.
        NothingToDoError: if no partition lies in the window.
    """
    data = loaded.pipeline.data
    root = Path(data.root).absolute()
    end = None if interval_end is None else parse_end(interval_end, data.utc_offset)
    if days is None and data.window is not None:
        days = duration_us(data.window) // DAY_US
    problems: list[Problem] = []
    row_files, interval = _rows(root, rows or data.rows, end, days, data.utc_offset)
    last = end or (None if interval is None else local_day(interval.end_us, data.utc_offset))
    sides = {name: _found(root, files, None, problems) for name, files in data.sides.items()}
    events = {name: _found(root, files, last, problems) for name, files in data.events.items()}
    if problems:
        raise DataError(problems)
    return SourceFiles(
        root, row_files, (rows or data.rows).format, sides, events, _formats(data)
    ), interval


def _formats(data: DataConfig) -> dict[str, str]:
    return {name: files.format for name, files in {**data.sides, **data.events}.items()}


def _rows(
    root: Path, files: FileSet, end: date | None, days: int | None, utc_offset: str
) -> tuple[tuple[Path, ...], Interval | None]:
    if "{date}" not in files.path:
        problems: list[Problem] = []
        found = _found(root, files, None, problems)
        if problems:
            raise DataError(problems)
        interval = None if end is None else Interval(0, day_start_us(end, utc_offset))
        return found, interval
    partitions = _partitions(root, files)
    if not partitions:
        raise DataError(_absent(root, files))
    end = end or max(partitions) + timedelta(days=1)
    start = end - timedelta(days=days) if days else min(partitions)
    inside = {day: path for day, path in partitions.items() if start <= day < end}
    if not inside:
        raise NothingToDoError(
            f"{root / files.path}: no partition from {start} until before {end}; "
            f"there are {min(partitions)} to {max(partitions)}"
        )
    wanted = [start + timedelta(days=i) for i in range((end - start).days)]
    gaps = [day for day in wanted if day not in inside]
    if gaps:
        listed = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        message = f"{len(gaps)} of {len(wanted)} days of the window are missing: {listed}"
        fix = "Deliver them, or choose another --interval-end or data.window."
        raise DataError(Problem(str(root / files.path), message, fix, "D042"))
    interval = Interval(day_start_us(start, utc_offset), day_start_us(end, utc_offset))
    return tuple(inside[day] for day in sorted(inside)), interval


def _partitions(root: Path, files: FileSet) -> dict[date, Path]:
    """Existing daily files by day."""
    before, _, after = files.path.partition("{date}")
    found = {}
    for path in sorted(root.glob(before + "*" + after)):
        text = path.relative_to(root).as_posix()
        text = text[len(before) : len(text) - len(after)]
        try:
            found[datetime.strptime(text, files.date_format).date()] = path
        except ValueError:
            continue
    return found


def _found(
    root: Path, files: FileSet, end: date | None, problems: list[Problem]
) -> tuple[Path, ...]:
    """Files of a side table or log; daily partitions before `end` only."""
    if "{date}" in files.path:
        partitions = _partitions(root, files)
        paths = [p for day, p in sorted(partitions.items()) if end is None or day < end]
    else:
        paths = sorted(root.glob(files.path))
    if not paths:
        problems.append(_absent(root, files))
    return tuple(paths)


def _absent(root: Path, files: FileSet) -> Problem:
    fix = "Check data.root and the path; --set data.root=FOLDER changes it for one run."
    return Problem(str(root / files.path), "no such file", fix, "D024")
