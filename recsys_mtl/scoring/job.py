"""Batch scoring: the rows of a day through the champion's own transform and weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import make_dir, read_table, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.plan import Format, Plan, ShardTask, make_plan, verify_plan
from recsys_mtl.artifacts.pointer import write_pointer
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.engines import make_engine
from recsys_mtl.errors import ConfigError, DataError, IntegrityError, Problem
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.files import SourceFiles, resolve_files
from recsys_mtl.ingest.job import silent, source_context
from recsys_mtl.registry.bundle import Bundle, loaded_bundle
from recsys_mtl.spec.interval import Interval
from recsys_mtl.spec.layout import ROW_ID
from recsys_mtl.spec.load import Loaded

CURRENT = "CURRENT.json"
_ROW_ID = "row_id"


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """One shard to score into `out`."""

    shard: ShardTask
    count: int
    ctx: SourceContext
    bundle_dir: Path
    bundle_sha: str
    columns: tuple[str, ...]
    out: Path
    root: Path

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


def score_shard(task: ScoreTask) -> Receipt:
    """Score and commit one shard, unless its receipt says that this is done."""
    done = committed(task.out, task.index, task.count)
    if done is not None:
        return done
    bundle = loaded_bundle(task.bundle_dir, task.bundle_sha)
    assembled, encoded = encode_rows(task.shard, task.ctx, bundle.fit)
    if assembled.quarantined.num_rows:
        message = f"{assembled.quarantined.num_rows:,} rows have no group or time"
        fix = "Every row to score needs both. Nothing was published."
        raise DataError(Problem(str(task.shard.path), message, fix, "D007"))
    probs = bundle.predict(encoded)
    names = bundle.layout.task_names
    scores = {name: probs[:, names.index(name)] for name in task.columns}
    table = pa.table({_ROW_ID: encoded[ROW_ID], **scores})
    table = table.take(pc.sort_indices(table, [(_ROW_ID, "ascending")]))
    path = task.out / part_name(task.index, task.count, ".parquet")
    receipt = Receipt(
        task.index,
        task.count,
        task.shard.path.relative_to(task.root).as_posix(),
        task.shard.rows,
        table.num_rows,
        0,
        (write_table(path, table, task.out),),
        assembled.counts,
    )
    write_receipt(task.out, receipt)
    return receipt


@dataclass(frozen=True)
class _Work:
    """What a run of `score` is about."""

    loaded: Loaded
    bundle: Bundle
    files: SourceFiles
    interval: Interval | None
    plan: Plan
    columns: tuple[str, ...]
    out: Path


def score(
    loaded: Loaded,
    bundle: Bundle,
    version: str,
    interval_end: str | None,
    progress: Callable[..., None] = silent,
) -> Manifest:
    """Score the rows of the window's last day and publish them, or return what is published.

    Args:
        loaded: the pipeline; `scoring.rows` says which rows.
        bundle: the champion.
        version: its version in the registry.
        interval_end: end of the window; the newest partition when absent.
        progress: called per finished shard.

    Returns:
        The artifact: shards with `row_id` and one end-to-end probability per task, float64. Its
        parent's `CURRENT.json` points to what was scored last.

    Raises:
        ConfigError: if the bundle does not predict what the pipeline asks for.
        DataError: if the rows do not fit the bundle's spec or repeat a row id; nothing is
            published.
        IntegrityError: if a score is not finite.
        TransientError: if another run is scoring the same rows.
    """
    pipeline, config = loaded.pipeline, loaded.pipeline.scoring
    assert config is not None, "live creatives are scored by `score_creatives`"
    columns = _columns(loaded, bundle, config.columns)
    files, interval = resolve_files(loaded, interval_end, config.rows, days=1)
    file_format: Format = "csv" if files.row_format == "csv" else "parquet"
    plan = make_plan(files.root, files.rows, config.shard_rows, file_format)
    facts = {**_facts(loaded, bundle, version, interval), "columns": list(columns)}
    key = run_key(
        "score",
        data_fp=plan.fp,
        side_fp=files.side_fp(),
        shard_rows=str(config.shard_rows),
        facts=canonical(facts).decode(),
    )
    out = stage_dir(loaded.home, pipeline.name, "scores", key)
    with stage_lock(out):
        if not is_published(out):
            work = _Work(loaded, bundle, files, interval, plan, columns, make_dir(out))
            _make(work, {"run_key": key, **facts}, progress)
        manifest = open_artifact(out)
    point_to(manifest)
    return manifest


def point_to(scores: Manifest) -> None:
    """Make the `CURRENT.json` beside an artifact point to it."""
    pointer = {
        "run_key": scores.meta["run_key"],
        "directory": scores.dir.name,
        "manifest_sha": scores.sha,
    }
    write_pointer(scores.dir.parent / CURRENT, canonical(pointer))


def _columns(loaded: Loaded, bundle: Bundle, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Tasks to score, after checking that bundle and pipeline fit together."""
    data, names = loaded.pipeline.data, bundle.layout.task_names
    problems = []
    if bundle.source != data.source:
        message = f"is {data.source!r}, but the bundle predicts {bundle.source!r}"
        problems.append(Problem("data.source", message, "Score it with its own pipeline."))
    columns = wanted or names
    for column in columns:
        if column not in names:
            message = f"the bundle has no task {column!r}; it predicts {', '.join(names)}"
            problems.append(Problem("scoring.columns", message, "Remove it, or promote a model."))
    source = bundle.spec.sources[bundle.source]
    needed = [("sides", join.side, data.sides) for join in source.joins]
    needed += [("events", log, data.events) for log in source.events]
    for section, name, present in needed:
        if name not in present:
            message = f"the bundle reads {name!r}, which is not declared"
            problems.append(Problem(f"data.{section}", message, "Declare its files."))
    if problems:
        raise ConfigError(problems)
    return columns


def _facts(
    loaded: Loaded, bundle: Bundle, version: str, interval: Interval | None
) -> dict[str, Any]:
    return {
        "model": loaded.pipeline.name,
        "version": version,
        "bundle_sha": bundle.sha,
        "fit_fp": bundle.lineage["fit_fp"],
        "input_fp": bundle.lineage["input_fp"],
        "interval": interval.as_json() if interval else None,
    }


def _make(work: _Work, meta: dict[str, Any], progress: Callable[..., None]) -> Manifest:
    receipts = _score_all(work, progress)
    verify_plan(work.plan)
    rows = sum(receipt.rows_out for receipt in receipts)
    if rows != work.plan.rows:
        raise IntegrityError(f"{work.out}: {work.plan.rows:,} rows came in, {rows:,} were scored")
    _check_row_ids(receipts, work)
    entries = [e for r in receipts for e in (*r.files, write_receipt(work.out, r))]
    return publish(work.out, entries, {**meta, "rows": rows})


def _score_all(work: _Work, progress: Callable[..., None]) -> list[Receipt]:
    """Receipts of all shards, in their order."""
    loaded, bundle, shards = work.loaded, work.bundle, work.plan.tasks
    with (
        source_context(loaded, bundle.spec, work.files, work.interval, work.out, False) as ctx,
        make_engine(loaded.pipeline.ingest) as engine,
    ):
        rest = (len(shards), ctx, bundle.dir, bundle.sha, work.columns, work.out, work.files.root)
        tasks = [ScoreTask(shard, *rest) for shard in shards]
        receipts: list[Receipt] = []
        for receipt in engine.map(score_shard, tasks):
            receipts.append(receipt)
            progress(len(receipts), len(tasks), rows=sum(r.rows_out for r in receipts))
    return sorted(receipts, key=lambda receipt: receipt.index)


def _check_row_ids(receipts: Sequence[Receipt], work: _Work) -> None:
    """Refuse an id that stands twice, in one shard or in two."""
    parts = [read_table(work.out / e.path, [_ROW_ID])[_ROW_ID] for r in receipts for e in r.files]
    key = f"column {work.bundle.spec.sources[work.bundle.source].keys.row_id!r}"
    kinds = sorted({str(part.type) for part in parts})
    where, fix = str(work.files.root), "Deliver the rows again. Nothing was published."
    if len(kinds) > 1:
        message = f"{key} holds {' and '.join(kinds)}; row ids are of one type"
        raise DataError(Problem(where, message, fix, "D033"))
    ids = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    repeats = len(ids) - pc.count_distinct(ids, mode="all").as_py()
    if repeats:
        message = f"{key}: {repeats:,} rows repeat the id of another; each row has its own"
        raise DataError(Problem(where, message, fix, "D071"))
