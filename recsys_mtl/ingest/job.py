"""Ingestion: plan, scan and fit on train rows, encode shards, publish."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.plan import Format, Plan, ShardTask, make_plan, verify_plan
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.engines import make_engine
from recsys_mtl.engines.base import Engine, worker_name
from recsys_mtl.errors import Problem
from recsys_mtl.ingest.assemble import SourceContext, assemble, encode_rows, read_rows
from recsys_mtl.ingest.checks import (
    Scan,
    ScanTask,
    check_whole,
    one_message_per_fault,
    scan_shard,
)
from recsys_mtl.ingest.files import SourceFiles, resolve_files
from recsys_mtl.ingest.fit import FitState, PartialFit, finish, fit_fp
from recsys_mtl.ingest.history import build_index
from recsys_mtl.ingest.splits import TEST, time_bounds
from recsys_mtl.spec.feature_spec import FeatureSpec, TimeSplit
from recsys_mtl.spec.fingerprint import canonical, fingerprint, input_fp, spec_fp
from recsys_mtl.spec.interval import Interval
from recsys_mtl.spec.layout import ROW_ID, SPLIT, SPLITS, TIME
from recsys_mtl.spec.load import Loaded

Report = Callable[..., None]
"""progress(done, total, **numbers)."""
SAMPLE, FIT = "sample.parquet", "fit"
_SAMPLE_ROWS = 256


def silent(done: int, total: int, **numbers: float | str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Inputs:
    """A resolved window: its files, plan and fingerprints."""

    files: SourceFiles
    interval: Interval | None
    plan: Plan
    data_fp: str


def resolve_inputs(loaded: Loaded, interval_end: str | None) -> Inputs:
    """Find and fingerprint the input of a window; errors as `resolve_files` and `make_plan`."""
    files, interval = resolve_files(loaded, interval_end)
    file_format: Format = "csv" if files.row_format == "csv" else "parquet"
    plan = make_plan(files.root, files.rows, loaded.pipeline.ingest.shard_rows, file_format)
    return Inputs(files, interval, plan, fingerprint([plan.fp, files.side_fp()]))


@contextmanager
def source_context(
    loaded: Loaded,
    spec: FeatureSpec,
    files: SourceFiles,
    interval: Interval | None,
    work: Path,
    with_labels: bool,
) -> Iterator[SourceContext]:
    """What assembling needs; event indexes are built in `work/_events` and removed at the end."""
    source = loaded.pipeline.data.source
    is_timed = loaded.pipeline.split is not None or isinstance(spec.split, TimeSplit)
    indexes = {}
    try:
        for sequence in spec.sequences_of(source):
            if sequence.events is None:
                continue
            name = sequence.events.log
            tables = [read_rows(path, files.formats[name]) for path in files.events[name]]
            path = make_dir(work / "_events") / f"{sequence.name}.arrow"
            build_index(path, tables, spec.sources[source].events[name], sequence)
            indexes[sequence.name] = path
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


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """One shard to encode into `out`."""

    shard: ShardTask
    count: int
    ctx: SourceContext
    out: Path
    root: Path

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


@lru_cache(maxsize=4)
def _fit_state(directory: Path) -> FitState:
    return FitState.load(directory)


def encode_shard(task: EncodeTask) -> tuple[Receipt, str]:
    """Encode and commit one shard, unless its receipt says that this is done; and who did it."""
    done = committed(task.out, task.index, task.count)
    if done is not None:
        return done, worker_name()
    assembled, encoded = encode_rows(task.shard, task.ctx, _fit_state(task.out / FIT))
    encoded = encoded.take(sorted_by_time(encoded))
    name = part_name(task.index, task.count, ".parquet")
    entries = [write_table(task.out / name, encoded, task.out)]
    if assembled.quarantined.num_rows:
        make_dir(task.out / "quarantine")
        path = task.out / "quarantine" / name
        entries.append(write_table(path, assembled.quarantined, task.out))
    codes = encoded[SPLIT].to_numpy()
    counts = {name: int((codes == code).sum()) for code, name in enumerate(SPLITS)}
    receipt = Receipt(
        task.index,
        task.count,
        task.shard.path.relative_to(task.root).as_posix(),
        encoded.num_rows + assembled.quarantined.num_rows,
        encoded.num_rows,
        assembled.quarantined.num_rows,
        tuple(entries),
        {**counts, **assembled.counts},
    )
    write_receipt(task.out, receipt)
    return receipt, worker_name()


def sorted_by_time(encoded: pa.Table) -> pa.Array:
    """Order by (time, row id)."""
    return pc.sort_indices(encoded, [(TIME, "ascending"), (ROW_ID, "ascending")])


def ingest(loaded: Loaded, interval_end: str | None, progress: Report = silent) -> Manifest:
    """Make the encoded shards of a window, or return them if they are published.

    Raises:
        DataError: with all problems of the data; nothing is published.
        NothingToDoError: if the window holds no partition.
        TransientError: if another run is making the same shards.
    """
    inputs = resolve_inputs(loaded, interval_end)
    config = loaded.pipeline.ingest
    settings = {
        "source": loaded.pipeline.data.source,
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "split": loaded.pipeline.split.model_dump() if loaded.pipeline.split else None,
        "shard_rows": config.shard_rows,
        "reject_budget": config.reject_budget,
        "utc_offset": loaded.pipeline.data.utc_offset,
    }
    key = run_key(
        "ingest",
        data_fp=inputs.data_fp,
        spec_fp=spec_fp(loaded.spec),
        settings=canonical(settings).decode(),
    )
    out = stage_dir(loaded.home, loaded.pipeline.name, "ingest", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        spec, files = loaded.spec, inputs.files
        with (
            source_context(loaded, spec, files, inputs.interval, out, True) as ctx,
            make_engine(config) as engine,
        ):
            scans = _scan(inputs.plan.tasks, ctx, engine, progress)
            problems = check_whole(scans, ctx, config.reject_budget)
            if problems:
                raise one_message_per_fault(problems)
            entries, facts = _make(inputs, scans, ctx, engine, out, progress)
        return publish(out, entries, {"run_key": key, **facts})


def _make(
    inputs: Inputs,
    scans: list[Scan],
    ctx: SourceContext,
    engine: Engine,
    out: Path,
    progress: Report,
) -> tuple[list[FileEntry], dict[str, Any]]:
    """Write everything but the manifest; its entries and facts."""
    fit = finish(_partials(scans), ctx.spec, ctx.source)
    entries = fit.save(out / FIT, out)
    receipts, workers = _encode(inputs, ctx, engine, out, progress)
    entries += [entry for receipt in receipts for entry in receipt.files]
    entries += [write_receipt(out, receipt) for receipt in receipts]
    entries.append(_sample(scans, ctx, out))
    verify_plan(inputs.plan)
    lines = [json.dumps({"shard": i, "worker": w}) for i, w in sorted(workers.items())]
    atomic_write(out / "timing.jsonl", ("\n".join(lines) + "\n").encode())
    facts = {
        "spec_fp": spec_fp(ctx.spec),
        "input_fp": input_fp(ctx.spec),
        "fit_fp": fit_fp(fit, ctx.spec),
        "data_fp": inputs.data_fp,
        "source": ctx.source,
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "splits": split_summary(scans),
        "rows_in": inputs.plan.rows,
        "rows_out": sum(r.rows_out for r in receipts),
        "rows_quarantined": sum(r.rows_quarantined for r in receipts),
    }
    return entries, facts


def _scan(
    tasks: Sequence[ShardTask], ctx: SourceContext, engine: Engine, progress: Report
) -> list[Scan]:
    """Scans of all shards, in their order."""
    scans = []
    for scan in engine.map(scan_shard, [ScanTask(task, ctx) for task in tasks]):
        scans.append(scan)
        progress(len(scans), 2 * len(tasks), step="fit")
    return sorted(scans, key=lambda scan: scan.shard.index)


def _partials(scans: Sequence[Scan]) -> list[PartialFit]:
    return [scan.partial for scan in scans if scan.partial is not None]


def _encode(
    inputs: Inputs, ctx: SourceContext, engine: Engine, out: Path, progress: Report
) -> tuple[list[Receipt], dict[int, str]]:
    shards = inputs.plan.tasks
    tasks = [EncodeTask(s, len(shards), ctx, out, inputs.files.root) for s in shards]
    receipts, workers, rows = [], {}, 0
    for receipt, worker in engine.map(encode_shard, tasks):
        receipts.append(receipt)
        workers[receipt.index] = worker
        rows += receipt.rows_out
        progress(len(shards) + len(receipts), 2 * len(shards), step="encode", rows=rows)
    return sorted(receipts, key=lambda r: r.index), workers


def _sample(scans: Sequence[Scan], ctx: SourceContext, out: Path) -> FileEntry:
    """A few assembled test rows, from which bundles make their golden rows."""
    with_test = [scan for scan in scans if scan.splits["test"].rows] or list(scans)
    rows = assemble(with_test[0].shard, ctx).table
    test = rows.filter(pa.array(rows[SPLIT].to_numpy() == TEST))
    chosen = (test if test.num_rows else rows).slice(0, _SAMPLE_ROWS)
    return write_table(out / SAMPLE, chosen, out)


def split_summary(scans: Sequence[Scan]) -> dict[str, Any]:
    """Rows and times of each split over all shards; times are None without rows."""
    summary = {}
    for name in scans[0].splits:
        parts = [scan.splits[name] for scan in scans if scan.splits[name].rows]
        summary[name] = {
            "rows": int(np.sum([p.rows for p in parts], dtype=np.int64)),
            "min_time_us": min((p.min_us for p in parts), default=None),
            "max_time_us": max((p.max_us for p in parts), default=None),
        }
    return summary


def validate(
    loaded: Loaded, interval_end: str | None, progress: Report = silent
) -> tuple[list[Problem], dict[str, Any]]:
    """Run all checks of `ingest` without publishing anything.

    Returns:
        The problems found and the rows of each split.
    """
    inputs = resolve_inputs(loaded, interval_end)
    key = run_key("validate", data_fp=inputs.data_fp, spec_fp=spec_fp(loaded.spec))
    work = stage_dir(loaded.home, loaded.pipeline.name, "validate", key)
    with (
        stage_lock(work),
        source_context(
            loaded, loaded.spec, inputs.files, inputs.interval, make_dir(work), True
        ) as ctx,
        make_engine(loaded.pipeline.ingest) as engine,
    ):
        scans = _scan(inputs.plan.tasks, ctx, engine, progress)
        problems = check_whole(scans, ctx, loaded.pipeline.ingest.reject_budget)
    shutil.rmtree(work, ignore_errors=True)
    return problems, split_summary(scans) if not problems else {}
