"""Evaluation as a stage: the holdout through a bundle's own transform and weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.plan import ShardTask, verify_plan
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.engines import make_engine
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.evaluation.measure import measure
from recsys_mtl.evaluation.oracle import against_oracle, read_truth
from recsys_mtl.evaluation.outcomes import prediction_rows
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.job import Inputs, resolve_inputs, silent, source_context
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.registry.bundle import Bundle, loaded_bundle
from recsys_mtl.registry.predictions import MISSING, ROW_ID, TIME, slice_column
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.layout import SPLIT
from recsys_mtl.spec.load import Loaded

METRICS, CALIBRATION, ORACLE = "metrics.json", "calibration.json", "oracle.json"


@dataclass(frozen=True, slots=True)
class PredictTask:
    """One shard whose test rows are predicted into `out`."""

    shard: ShardTask
    count: int
    ctx: SourceContext
    bundle_dir: Path
    bundle_sha: str
    slices: tuple[str, ...]
    out: Path
    root: Path

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


def predict_shard(task: PredictTask) -> Receipt:
    """Predict and commit one shard's test rows, unless its receipt says that this is done."""
    done = committed(task.out, task.index, task.count)
    if done is not None:
        return done
    bundle = loaded_bundle(task.bundle_dir, task.bundle_sha)
    assembled, encoded = encode_rows(task.shard, task.ctx, bundle.fit)
    is_test = pa.array(encoded[SPLIT].to_numpy() == TEST)
    encoded, raw = encoded.filter(is_test), assembled.table.filter(is_test)
    columns = {f.name: f.column or f.name for f in bundle.spec.features_of(bundle.source)}
    probs = bundle.predict(encoded)
    for name in task.slices:
        values = pc.fill_null(pc.cast(raw[columns[name]], pa.string()), MISSING)
        encoded = encoded.append_column(slice_column(name), values)
    rows = prediction_rows(encoded, probs, bundle.layout)
    path = task.out / part_name(task.index, task.count, ".parquet")
    receipt = Receipt(
        task.index,
        task.count,
        task.shard.path.relative_to(task.root).as_posix(),
        rows.num_rows,
        rows.num_rows,
        0,
        (write_table(path, rows, task.out),),
    )
    write_receipt(task.out, receipt)
    return receipt


def evaluate(
    loaded: Loaded,
    bundle: Bundle,
    interval_end: str | None,
    progress: Callable[..., None] = silent,
) -> Manifest:
    """Predict the test rows of a window and measure, or return what is published.

    Args:
        loaded: the pipeline; its split says which rows are the holdout.
        bundle: candidate or champion; rows go through its own spec and fit state.
        interval_end: end of the window; the newest partition when absent.
        progress: called per finished shard.

    Returns:
        The artifact: `part-*.parquet` as `registry.predictions` lays them out, `metrics.json`,
        `calibration.json`, and `oracle.json` in simulated worlds.

    Raises:
        DataError: if there is no test row, or a row does not fit the bundle's spec.
    """
    inputs = resolve_inputs(loaded, interval_end)
    settings = {
        "evaluation": loaded.pipeline.evaluation.model_dump(mode="json"),
        "split": loaded.pipeline.split.model_dump() if loaded.pipeline.split else None,
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "shard_rows": loaded.pipeline.ingest.shard_rows,
    }
    key = run_key(
        "evaluate",
        data_fp=inputs.data_fp,
        bundle=bundle.sha,
        settings=canonical(settings).decode(),
    )
    out = stage_dir(loaded.home, loaded.pipeline.name, "evaluate", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        receipts = _predict(loaded, bundle, inputs, out, progress)
        rows = pa.concat_tables(read_table(out / e.path) for r in receipts for e in r.files)
        if rows.num_rows == 0:
            fix = "Check the interval and the split."
            raise DataError(Problem("test rows", "there are none to evaluate on", fix, "D041"))
        entries = [e for r in receipts for e in (*r.files, write_receipt(out, r))]
        truth = _truth(loaded, interval_end)
        entries += _reports(loaded, bundle, truth, rows, out)
        verify_plan(inputs.plan)
        return publish(out, entries, {"run_key": key, **_facts(bundle, inputs, rows)})


def _predict(
    loaded: Loaded, bundle: Bundle, inputs: Inputs, out: Path, progress: Callable[..., None]
) -> list[Receipt]:
    names = loaded.pipeline.evaluation.slices
    with (
        source_context(loaded, bundle.spec, inputs.files, inputs.interval, out, True) as ctx,
        make_engine(loaded.pipeline.ingest) as engine,
    ):
        shards = inputs.plan.tasks
        rest = (len(shards), ctx, bundle.dir, bundle.sha, names, out, inputs.files.root)
        tasks = [PredictTask(shard, *rest) for shard in shards]
        receipts = []
        for receipt in engine.map(predict_shard, tasks):
            receipts.append(receipt)
            progress(len(receipts), len(tasks))
    return sorted(receipts, key=lambda r: r.index)


def _truth(loaded: Loaded, interval_end: str | None) -> pa.Table | None:
    files = loaded.pipeline.evaluation.oracle
    return None if files is None else read_truth(loaded, interval_end, files)


def _reports(
    loaded: Loaded, bundle: Bundle, truth: pa.Table | None, rows: pa.Table, out: Path
) -> list[FileEntry]:
    config = loaded.pipeline.evaluation
    metrics, calibration = measure(rows, bundle.layout.task_names, config.slices, config.max_slices)
    reports: dict[str, Any] = {METRICS: metrics, CALIBRATION: calibration}
    if truth is not None:
        reports[ORACLE] = against_oracle(rows, truth, bundle.layout.task_names)
    for name, report in reports.items():
        atomic_write(out / name, canonical(report))
    return [entry_of(out / name, out) for name in reports]


def _facts(bundle: Bundle, inputs: Inputs, rows: pa.Table) -> dict[str, Any]:
    keys = bundle.spec.sources[bundle.source].keys
    time = rows[TIME].to_numpy()
    ids = rows[ROW_ID].to_numpy()
    return {
        "tasks": list(bundle.layout.task_names),
        "bundle_sha": bundle.sha,
        "input_fp": bundle.lineage["input_fp"],
        "data_fp": inputs.data_fp,
        "holdout_fp": fingerprint([len(ids), np.sort(ids).tolist()]),
        "has_group": keys.group is not None,
        "split_policy": bundle.spec.split.policy,
        "min_time_us": int(time.min()) if keys.time else None,
        "max_time_us": int(time.max()) if keys.time else None,
        "rows": rows.num_rows,
    }
