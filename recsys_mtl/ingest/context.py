"""What a run reads: its files, plan and fingerprints, and the context that workers share."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys_mtl.artifacts.commit import make_dir
from recsys_mtl.artifacts.plan import Format, Plan, make_plan, verify_plan
from recsys_mtl.errors import ConfigError, DataError, Problem
from recsys_mtl.ingest.assemble import SourceContext
from recsys_mtl.ingest.columns import collecting
from recsys_mtl.ingest.files import SourceFiles, resolve_files
from recsys_mtl.ingest.history import event_columns, events_of, write_index
from recsys_mtl.ingest.raw import located, read_rows
from recsys_mtl.ingest.splits import time_bounds
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import FeatureSpec, Sequence, TimeSplit
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.interval import Interval
from recsys_mtl.spec.load import Loaded

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """A resolved window: its files, plan and fingerprints."""

    files: SourceFiles
    interval: Interval | None
    plan: Plan
    data_fp: str


def resolve_inputs(loaded: Loaded, interval_end: str | None) -> Inputs:
    """Find and fingerprint the input of a window.

    Raises:
        ConfigError: if the split or a label needs the window's end and there is none.
        DataError, NothingToDoError: as `resolve_files` and `make_plan`.
    """
    files, interval = resolve_files(loaded, interval_end)
    if interval is None:
        _check_end_is_not_needed(loaded)
    file_format: Format = "csv" if files.row_format == "csv" else "parquet"
    plan = make_plan(files.root, files.rows, loaded.pipeline.ingest.shard_rows, file_format)
    return Inputs(files, interval, plan, fingerprint([plan.fp, files.side_fp()]))


def verify_inputs(inputs: Inputs) -> None:
    """Check that no input file changed since it was fingerprinted; call it before publishing.

    Raises:
        DataError: if one did.
    """
    verify_plan(inputs.plan)
    if fingerprint([inputs.plan.fp, inputs.files.side_fp()]) != inputs.data_fp:
        names = ", ".join(sorted({*inputs.files.sides, *inputs.files.events}))
        message = f"a side table or event log ({names}) changed while the run was reading it"
        fix = "Rerun when the files are complete. Nothing was published."
        raise DataError(Problem(str(inputs.files.root), message, fix, "D022"))


@contextmanager
def source_context(
    loaded: Loaded,
    spec: FeatureSpec,
    files: SourceFiles,
    interval: Interval | None,
    work: Path,
    with_labels: bool,
) -> Iterator[SourceContext]:
    """What assembling needs; event indexes are built in `work/_events` and removed at the end.

    Raises:
        DataError: with all problems of all event logs.
    """
    source = loaded.pipeline.data.source
    is_timed = loaded.pipeline.split is not None or isinstance(spec.split, TimeSplit)
    try:
        indexes = _build_indexes(spec, source, files, work / "_events")
        yield SourceContext(
            spec,
            source,
            files.row_format,
            files.sides,
            files.formats,
            indexes,
            time_bounds(loaded.pipeline, spec, interval) if with_labels and is_timed else None,
            interval.end_us if interval else None,
            with_labels,
        )
    finally:
        shutil.rmtree(work / "_events", ignore_errors=True)


def _build_indexes(
    spec: FeatureSpec, source: str, files: SourceFiles, folder: Path
) -> dict[str, Path]:
    """One index per sequence that is built from a log; each log is read once."""
    problems: list[Problem] = []
    indexes: dict[str, Path] = {}
    for name in spec.sources[source].events:
        built = [
            s for s in spec.sequences_of(source) if s.events is not None and s.events.log == name
        ]
        if built:
            with collecting(problems):
                parts = _read_log(spec, source, files, name, built)
                for sequence in built:
                    path = make_dir(folder) / f"{sequence.name}.arrow"
                    with located(files.events[name][0]):
                        write_index(path, parts[sequence.name])
                    indexes[sequence.name] = path
                    _warn_if_empty(parts[sequence.name], sequence, name)
    if problems:
        raise DataError(problems)
    return indexes


def _read_log(
    spec: FeatureSpec, source: str, files: SourceFiles, name: str, built: list[Sequence]
) -> dict[str, list[pa.Table]]:
    """Events of each sequence, one table per file of the log."""
    log = spec.sources[source].events[name]
    columns = event_columns(log, built)
    problems: list[Problem] = []
    parts: dict[str, list[pa.Table]] = {sequence.name: [] for sequence in built}
    for path in files.events[name]:
        with collecting(problems), located(path):
            table = read_rows(path, files.formats[name], columns=columns)
            for sequence in built:
                parts[sequence.name].append(events_of(table, log, sequence))
    if problems:
        raise DataError(problems)
    return parts


def _warn_if_empty(parts: list[pa.Table], sequence: Sequence, log: str) -> None:
    where = sequence.events.where if sequence.events is not None else None
    if where is not None and not any(part.num_rows for part in parts):
        text = "sequence %r is empty for every row: no event of log %r has %s equal to %r"
        _log.warning(text, sequence.name, log, where.column, where.equals)


def _check_end_is_not_needed(loaded: Loaded) -> None:
    source = loaded.spec.sources[loaded.pipeline.data.source]
    problems = []
    fix = "Pass --interval-end, or put `{date}` in data.rows.path."
    if loaded.pipeline.split is not None:
        text = "is counted back from the end of the window, which files without a date do not show"
        problems.append(Problem(f"{loaded.pipeline_path}: split", text, fix, "P011"))
    late = [label.name for label in source.labels if duration_us(label.maturity)]
    if late:
        text = f"the maturity of {', '.join(late)} is judged at the end of the window, which files"
        where = f"{loaded.spec_path}: labels"
        problems.append(Problem(where, f"{text} without a date do not show", fix, "P011"))
    if problems:
        raise ConfigError(problems)
