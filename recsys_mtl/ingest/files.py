"""Which files a run reads: daily partitions of a window, side tables, behaviour logs."""

import re
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath

from recsys_mtl.artifacts.commit import sha256_file
from recsys_mtl.errors import ConfigError, DataError, NothingToDoError, Problem
from recsys_mtl.ingest.columns import collecting
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.interval import DAY_US, Interval, day_start_us, local_day, parse_end
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import DataConfig, FileSet

_DATE = "{date}"
_WILD = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
_DIGITS = {"%Y": r"\d{4}", "%m": r"\d{2}", "%d": r"\d{2}", "%y": r"\d{2}", "%j": r"\d{3}"}


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

    A path may hold `*` (any characters of one name), `**` (any folders) and `{date}`; a day may
    have several files.

    Args:
        loaded: the pipeline.
        interval_end: end of the window as `parse_end` reads it; when absent, the day after the
            newest partition, or None without daily partitions.
        rows: other rows than `data.rows`, e.g. those to score.
        days: length of the window; that of the pipeline when absent.

    Returns:
        Files in time order, and the window (None: everything, whenever it happened).

    Raises:
        ConfigError: if a path leaves `data.root`.
        DataError: naming all files or days that are missing.
        NothingToDoError: if no partition lies in the window.
    """
    data = loaded.pipeline.data
    root = Path(data.root).absolute()
    rows = rows or data.rows
    assert rows is not None, "ad-level rows are read from the landmarks artifact"
    check_paths(loaded, (rows, *data.sides.values(), *data.events.values()))
    end = None if interval_end is None else parse_end(interval_end, data.utc_offset)
    if days is None and data.window is not None:
        days = duration_us(data.window) // DAY_US
    problems: list[Problem] = []
    row_files: tuple[Path, ...] = ()
    interval: Interval | None = None
    with collecting(problems):
        row_files, interval = _rows(root, rows, end, days, data.utc_offset)
    last = end or (None if interval is None else local_day(interval.end_us, data.utc_offset))
    sides, events = {}, {}
    for name, files in data.sides.items():
        with collecting(problems):
            sides[name] = find_files(root, files, None)
    for name, files in data.events.items():
        with collecting(problems):
            events[name] = find_files(root, files, last)
    if problems:
        raise DataError(problems)
    return SourceFiles(root, row_files, rows.format, sides, events, _formats(data)), interval


def _formats(data: DataConfig) -> dict[str, str]:
    return {name: files.format for name, files in {**data.sides, **data.events}.items()}


def check_paths(loaded: Loaded, sets: Iterable[FileSet]) -> None:
    """Refuse paths that leave `data.root`.

    Raises:
        ConfigError: naming all.
    """
    problems = []
    for files in sets:
        path = PurePosixPath(files.path)
        if path.is_absolute() or ".." in path.parts:
            text = f"path {files.path!r} is not below data.root; a relative path was expected"
            fix = "Set data.root to a folder that holds all files."
            problems.append(Problem(f"{loaded.pipeline_path}: data", text, fix, "P011"))
    if problems:
        raise ConfigError(problems)


def _rows(
    root: Path, files: FileSet, end: date | None, days: int | None, utc_offset: str
) -> tuple[tuple[Path, ...], Interval | None]:
    if _DATE not in files.path:
        interval = None if end is None else Interval(0, day_start_us(end, utc_offset))
        return find_files(root, files, None), interval
    partitions = _partitions(root, files)
    if not partitions:
        raise DataError(_absent(root, files))
    end = end or max(partitions) + timedelta(days=1)
    start = end - timedelta(days=days) if days else min(partitions)
    inside = [day for day in sorted(partitions) if start <= day < end]
    if not inside:
        raise NothingToDoError(
            f"{root / files.path}: no partition from {start} until before {end}; "
            f"there are {min(partitions)} to {max(partitions)}"
        )
    fix = "Deliver them, or choose another --interval-end or data.window."
    _check_complete(root / files.path, partitions, (start, end), ("the window", fix))
    interval = Interval(day_start_us(start, utc_offset), day_start_us(end, utc_offset))
    return tuple(path for day in inside for path in partitions[day]), interval


def _partitions(root: Path, files: FileSet) -> dict[date, list[Path]]:
    """Existing daily files by day, each day's by path."""
    pattern = _date_pattern(files)
    found: dict[date, list[Path]] = defaultdict(list)
    days = re.sub("%.", "*", files.date_format)
    for path in _glob(root, files.path.replace(_DATE, days)):
        match = pattern.fullmatch(path.relative_to(root).as_posix())
        day = _day(match["date"], files.date_format) if match else None
        if day is not None:
            found[day].append(path)
    return found


def _date_pattern(files: FileSet) -> re.Pattern[str]:
    """What a path of the set looks like; every `{date}` is the same text."""
    first, *others = (_wildcards(part) for part in files.path.split(_DATE))
    day = re.sub("%.", lambda m: _DIGITS.get(m[0], "[^/]+"), re.escape(files.date_format))
    return re.compile(first + f"(?P<date>{day})" + "(?P=date)".join(others))


def _wildcards(part: str) -> str:
    pieces = re.split(r"(\*\*/|\*|\?)", part)
    return "".join(_WILD.get(piece, re.escape(piece)) for piece in pieces)


def _day(text: str, date_format: str) -> date | None:
    try:
        return datetime.strptime(text, date_format).date()
    except ValueError:
        return None


def _glob(root: Path, pattern: str) -> list[Path]:
    """Files in the order of their paths, without hidden ones, which writers use while writing."""
    names = [n if n == "**" else re.sub(r"\*+", "*", n) for n in pattern.split("/")]
    found = root.glob("/".join(names))
    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))


def daily_log(root: Path, files: FileSet, end: date | None) -> dict[date, list[Path]]:
    """Files of a log by day, from its first day until before `end`, or its newest day.

    Raises:
        DataError: if there are none at all, or a day is missing.
        NothingToDoError: if all are of later days.
    """
    partitions = _partitions(root, files)
    if not partitions:
        raise DataError(_absent(root, files))
    days = [day for day in sorted(partitions) if end is None or day < end]
    if not days:
        raise NothingToDoError(
            f"{root / files.path}: nothing before {end}; the log begins on {min(partitions)}"
        )
    fix = "Deliver them; a day on which nothing happened is a file without rows."
    span = (days[0], end or days[-1] + timedelta(days=1))
    _check_complete(root / files.path, partitions, span, ("the log", fix))
    return {day: partitions[day] for day in days}


def _check_complete(
    path: Path, days: Container[date], span: tuple[date, date], words: tuple[str, str]
) -> None:
    """Refuse a hole in [first, after): D042. `words` say of what, and the way out."""
    (first, after), (whole, fix) = span, words
    wanted = [first + timedelta(days=i) for i in range((after - first).days)]
    gaps = [day for day in wanted if day not in days]
    if gaps:
        listed = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        message = f"{len(gaps)} of {len(wanted)} days of {whole} are missing: {listed}"
        raise DataError(Problem(str(path), message, fix, "D042"))


def find_files(root: Path, files: FileSet, end: date | None) -> tuple[Path, ...]:
    """Files of a set; daily partitions before `end` only.

    Raises:
        DataError: if there are none.
    """
    if _DATE in files.path:
        partitions = _partitions(root, files)
        days = [day for day in sorted(partitions) if end is None or day < end]
        paths = [path for day in days for path in partitions[day]]
    else:
        paths = _glob(root, files.path)
    if not paths:
        raise DataError(_absent(root, files))
    return tuple(paths)


def _absent(root: Path, files: FileSet) -> Problem:
    fix = "Check data.root and the path; --set data.root=FOLDER changes it for one run."
    return Problem(str(root / files.path), "no such file", fix, "D024")
