"""Batch scoring: the rows of a day through the champion's own transform and weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import atomic_write, make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.plan import Format, ShardTask, make_plan, verify_plan
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.engines import make_engine
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.ingest.job import silent, source_context
from recsys_mtl.registry.bundle import Bundle, loaded_bundle
from recsys_mtl.spec.interval import Interval
from recsys_mtl.spec.layout import ROW_ID
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import IngestConfig

CURRENT = "CURRENT.json"


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
    table = pa.table({"row_id": encoded[ROW_ID], **scores})
    table = table.take(pc.sort_indices(table, [("row_id", "ascending")]))
    path = task.out / part_name(task.index, task.count, ".parquet")
    receipt = Receipt(
        task.index,
        task.count,
        task.shard.path.relative_to(task.root).as_posix(),
        encoded.num_rows,
        table.num_rows,
        0,
        (write_table(path, table, task.out),),
        assembled.counts,
    )
    write_receipt(task.out, receipt)
    return receipt


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
        The artifact: shards with `row_id` and one end-to-end probability per task; its parent's
        `CURRENT.json` points to it.

    Raises:
        DataError: if the rows do not fit the bundle's spec; nothing is published.
        IntegrityError: if a score is not finite.
    """
    pipeline = loaded.pipeline
    files, interval = resolve_files(loaded, interval_end, pipeline.scoring.rows, days=1)
    file_format: Format = "csv" if files.row_format == "csv" else "parquet"
    plan = make_plan(files.root, files.rows, pipeline.scoring.shard_rows, file_format)
    columns = pipeline.scoring.columns or bundle.layout.task_names
    facts = {**_facts(loaded, bundle, version, interval), "columns": list(columns)}
    key = run_key(
        "score", data_fp=plan.fp, side_fp=files.side_fp(), facts=canonical(facts).decode()
    )
    out = stage_dir(loaded.home, pipeline.name, "scores", key)
    with stage_lock(out):
        if not is_published(out):
            make_dir(out)
            with source_context(loaded, bundle.spec, files, interval, out, False) as ctx:
                rest = (len(plan.tasks), ctx, bundle.dir, bundle.sha, columns, out, files.root)
                tasks = [ScoreTask(shard, *rest) for shard in plan.tasks]
                receipts = _score(tasks, pipeline.ingest, progress)
            verify_plan(plan)
            entries = [e for r in receipts for e in (*r.files, write_receipt(out, r))]
            rows = sum(r.rows_out for r in receipts)
            publish(out, entries, {"run_key": key, "rows": rows, **facts})
        manifest = open_artifact(out)
    pointer = {"run_key": key, "directory": out.name, "manifest_sha": manifest.sha}
    atomic_write(out.parent / CURRENT, canonical(pointer))
    return manifest


def _score(
    tasks: list[ScoreTask], config: IngestConfig, progress: Callable[..., None]
) -> list[Receipt]:
    receipts = []
    with make_engine(config) as engine:
        for receipt in engine.map(score_shard, tasks):
            receipts.append(receipt)
            progress(len(receipts), len(tasks))
    return receipts


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
