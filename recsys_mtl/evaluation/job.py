"""Evaluation as a stage: the holdout through a bundle's own transform and weights."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
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
    sha256_file,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.plan import ShardTask, verify_plan
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.engines import make_engine
from recsys_mtl.errors import ConfigError, DataError, Problem
from recsys_mtl.evaluation.expert_report import EXPERT_ROWS, expert_report, has_gates
from recsys_mtl.evaluation.measure import above_parent, measure
from recsys_mtl.evaluation.oracle import against_oracle, read_truth, truth_files
from recsys_mtl.evaluation.outcomes import prediction_rows
from recsys_mtl.evaluation.window import shards_from
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.job import Inputs, resolve_inputs, silent, source_context
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.registry.bundle import Bundle, loaded_bundle
from recsys_mtl.registry.predictions import GROUP, MISSING, ROW_ID, TIME, slice_column
from recsys_mtl.spec.layout import SPLIT
from recsys_mtl.spec.load import Loaded

METRICS, CALIBRATION, ORACLE = "metrics.json", "calibration.json", "oracle.json"
EXPERTS = "experts.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictTask:
    """One shard whose test rows are predicted into `out`."""

    shard: ShardTask
    count: int
    ctx: SourceContext
    bundle_dir: Path
    bundle_sha: str
    slices: Mapping[str, str]
    """Slicing feature to its assembled column."""
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
    raw, encoded = _test_rows(task, bundle)
    probs = bundle.predict(encoded)
    for feature, column in task.slices.items():
        values = pc.fill_null(pc.cast(raw[column], pa.string()), MISSING)
        encoded = encoded.append_column(slice_column(feature), values)
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


def _test_rows(task: PredictTask, bundle: Bundle) -> tuple[pa.Table, pa.Table]:
    """A shard's test rows, assembled and encoded."""
    assembled, encoded = encode_rows(task.shard, task.ctx, bundle.fit)
    is_test = pa.array(encoded[SPLIT].to_numpy() == TEST)
    return assembled.table.filter(is_test), encoded.filter(is_test)


def evaluate(
    loaded: Loaded,
    bundle: Bundle,
    interval_end: str | None,
    progress: Callable[..., None] = silent,
) -> Manifest:
    """Predict the test rows of a window and measure, or return what is published.

    Rows and split are the pipeline's, so that two bundles meet on the same holdout; ids and
    numbers go through the bundle's own spec and fit state, as in scoring.

    Args:
        loaded: the pipeline.
        bundle: candidate or champion.
        interval_end: end of the window; the newest partition when absent.
        progress: called per finished shard.

    Returns:
        The artifact: `part-*.parquet` as `registry.predictions` lays them out, `metrics.json`,
        `calibration.json`, `oracle.json` in simulated worlds, and `experts.json` for towers
        with gates.

    Raises:
        ConfigError: if the bundle was made for another source.
        DataError: if there is no test row, or a row does not fit the bundle's spec.
        IntegrityError: if the bundle predicts anything but probabilities.
    """
    if bundle.source != loaded.pipeline.data.source:
        message = f"is {loaded.pipeline.data.source!r}, but the bundle predicts {bundle.source!r}"
        raise ConfigError(Problem("data.source", message, "Evaluate it with its own pipeline."))
    inputs = resolve_inputs(loaded, interval_end)
    truth = truth_files(loaded, interval_end)
    key = run_key(
        "evaluate",
        data_fp=inputs.data_fp,
        oracle_fp=" ".join(sha256_file(path) for path in truth),
        bundle=bundle.sha,
        settings=canonical(_settings(loaded, inputs)).decode(),
    )
    out = stage_dir(loaded.home, loaded.pipeline.name, "evaluate", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        entries, facts = _make(loaded, bundle, inputs, truth, out, progress)
        return publish(out, entries, {"run_key": key, **facts})


def _make(
    loaded: Loaded,
    bundle: Bundle,
    inputs: Inputs,
    truth: Sequence[Path],
    out: Path,
    progress: Callable[..., None],
) -> tuple[list[FileEntry], dict[str, Any]]:
    """Write everything but the manifest; its entries and facts."""
    slices = _slices(loaded, bundle)
    receipts, experts = _predict(loaded, bundle, slices, inputs, out, progress)
    if not any(receipt.rows_out for receipt in receipts):
        fix = "Choose another --interval-end, or widen the test window."
        raise DataError(Problem("test rows", "there are none to evaluate on", fix, "D041"))
    rows = pa.concat_tables(read_table(out / e.path) for r in receipts for e in r.files)
    tasks, max_slices = bundle.layout.task_names, loaded.pipeline.evaluation.max_slices
    metrics, calibration = measure(rows, tasks, list(slices), max_slices)
    metrics["above_parent"] = above_parent(rows, tasks, bundle.layout.parents)
    reports: dict[str, Mapping[str, Any]] = {METRICS: metrics, CALIBRATION: calibration}
    if truth:
        reports[ORACLE] = against_oracle(rows, read_truth(loaded, truth), tasks)
    if experts:
        reports[EXPERTS] = experts
    entries = [e for r in receipts for e in (*r.files, write_receipt(out, r))]
    entries += [_write_json(out / name, report) for name, report in reports.items()]
    verify_plan(inputs.plan)
    return entries, {"slices": list(slices), **_facts(loaded, bundle, inputs, rows)}


def _settings(loaded: Loaded, inputs: Inputs) -> dict[str, Any]:
    """What decides the bytes of an evaluation besides data and bundle."""
    pipeline = loaded.pipeline
    return {
        "evaluation": pipeline.evaluation.model_dump(mode="json"),
        "source": pipeline.data.source,
        "split": (pipeline.split or loaded.spec.split).model_dump(mode="json"),
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "utc_offset": pipeline.data.utc_offset,
        "shard_rows": pipeline.ingest.shard_rows,
    }


def _slices(loaded: Loaded, bundle: Bundle) -> dict[str, str]:
    """Slicing features that the bundle's spec has, and their assembled columns."""
    columns = {f.name: f.column or f.name for f in bundle.spec.features_of(bundle.source)}
    wanted = loaded.pipeline.evaluation.slices
    absent = [name for name in wanted if name not in columns]
    if absent:
        _log.warning("not sliced by %s: the bundle has no such feature", ", ".join(absent))
    return {name: columns[name] for name in wanted if name in columns}


def _predict(
    loaded: Loaded,
    bundle: Bundle,
    slices: Mapping[str, str],
    inputs: Inputs,
    out: Path,
    progress: Callable[..., None],
) -> tuple[list[Receipt], dict[str, Any]]:
    """Predict all shards that may hold test rows; receipts in their order, and experts' health."""
    # A bundle of an older spec must not move the holdout: the split is the pipeline's.
    spec = bundle.spec.model_copy(update={"split": loaded.spec.split})
    with (
        source_context(loaded, spec, inputs.files, inputs.interval, out, True) as ctx,
        make_engine(loaded.pipeline.ingest) as engine,
    ):
        shards = list(inputs.plan.tasks)
        if ctx.bounds is not None:
            shards = shards_from(shards, ctx.source_spec.keys, ctx.bounds.test_us)
        rest = (len(shards), ctx, bundle.dir, bundle.sha, slices, out, inputs.files.root)
        tasks = [PredictTask(shard, *rest) for shard in shards]
        receipts: list[Receipt] = []
        for receipt in engine.map(predict_shard, tasks):
            receipts.append(receipt)
            progress(len(receipts), len(tasks), rows=sum(r.rows_out for r in receipts))
        receipts.sort(key=lambda r: r.index)
        return receipts, _experts(tasks, receipts, bundle)


def _experts(
    tasks: Sequence[PredictTask], receipts: Sequence[Receipt], bundle: Bundle
) -> dict[str, Any]:
    """Health of the bundle's experts on rows spread over its first shards; {} without gates."""
    if not has_gates(bundle):
        return {}
    parts: list[pa.Table] = []
    found = 0
    for task, receipt in zip(tasks, receipts, strict=True):
        if receipt.rows_out and found < EXPERT_ROWS:
            # Encoded again: keeping every shard's rows would cost more than these few.
            parts.append(_test_rows(task, bundle)[1])
            found += receipt.rows_out
    if not parts:
        return {}
    spread = np.linspace(0, found - 1, min(found, EXPERT_ROWS)).astype(np.int64)
    return expert_report(bundle, pa.concat_tables(parts).take(spread))


def _write_json(path: Path, report: Mapping[str, Any]) -> FileEntry:
    # Keys are not sorted: slices stay in order of their rows, tasks in that of the spec.
    atomic_write(path, json.dumps(report, allow_nan=False).encode() + b"\n")
    return entry_of(path, path.parent)


def _facts(loaded: Loaded, bundle: Bundle, inputs: Inputs, rows: pa.Table) -> dict[str, Any]:
    """Meta data: what was predicted by what; the gate compares it."""
    keys = bundle.spec.sources[bundle.source].keys
    time = rows[TIME].to_numpy()
    return {
        "tasks": list(bundle.layout.task_names),
        "source": bundle.source,
        "bundle_sha": bundle.sha,
        "input_fp": bundle.lineage["input_fp"],
        "fit_fp": bundle.lineage["fit_fp"],
        "data_fp": inputs.data_fp,
        "holdout_fp": holdout_fp(rows),
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "has_group": keys.group is not None,
        "split_policy": "time" if loaded.pipeline.split else loaded.spec.split.policy,
        "min_time_us": int(time.min()) if keys.time else None,
        "max_time_us": int(time.max()) if keys.time else None,
        "rows": rows.num_rows,
    }


def holdout_fp(predictions: pa.Table) -> str:
    """Fingerprint of row ids, groups, times, labels and masks: all but predictions and slices."""
    digest = hashlib.sha256(h64(predictions[ROW_ID], 0).tobytes())
    for name in predictions.column_names:
        if name in (GROUP, TIME) or name.startswith(("label__", "mask__")):
            digest.update(name.encode() + b"\0" + predictions[name].to_numpy().tobytes())
    return digest.hexdigest()
