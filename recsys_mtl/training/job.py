"""Training as a stage: encoded shards in, the best weights out."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, entry_of, make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.joint import JointShards, Shards
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.spec.layout import compile_layout
from recsys_mtl.spec.load import Loaded
from recsys_mtl.training.checkpoint import Checkpoints, Progress
from recsys_mtl.training.learner import Learner
from recsys_mtl.training.loop import SURVIVAL_ROWS, Loop, Report

HISTORY = "history.json"
_CHECKPOINTS = "ckpt"


def train_key(loaded: Loaded, ingested: Manifest, creatives: Manifest | None = None) -> str:
    """Run key: shards, model, objectives, training configuration and size of ad-level batches."""
    pipeline = loaded.pipeline
    parts = {
        "model": pipeline.model,
        "objectives": pipeline.objectives,
        "training": pipeline.training,
    }
    config: dict[str, Any] = {name: part.model_dump(mode="json") for name, part in parts.items()}
    if creatives is not None and pipeline.creatives is not None:
        config["creatives.batch_rows"] = pipeline.creatives.batch_rows
    return run_key(
        "train",
        ingest=ingested.sha,
        creatives=creatives.sha if creatives else "",
        config=canonical(config).decode(),
    )


def train(
    loaded: Loaded,
    ingested: Manifest,
    report: Report,
    *,
    creatives: Manifest | None = None,
    from_scratch: bool = False,
) -> Manifest:
    """Train on the shards, or return the published weights; a killed run goes on where it was.

    Args:
        loaded: the pipeline.
        ingested: its encoded shards.
        creatives: encoded ad-level rows, where the pipeline has them beside others.
        report: called after every step with rows/s, seconds left and the losses.
        from_scratch: drop the checkpoints of a killed run instead of going on from them.

    Returns:
        The artifact: `dense.safetensors`, `tables/<table>.safetensors` (weights with the lowest
        validation loss), `history.json`.

    Raises:
        DataError: if there are no rows to train or to validate on.
        IntegrityError: if weights, losses or checkpoints are not what they must be.
        TransientError: if another run holds the stage, or the process was asked to stop.
    """
    key = train_key(loaded, ingested, creatives)
    out = stage_dir(loaded.home, loaded.pipeline.name, "train", key)
    with stage_lock(out):
        # A run that was killed between publishing and tidying up leaves its checkpoints here.
        if from_scratch or is_published(out):
            shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)
        if is_published(out):
            return open_artifact(out)
        for artifact in filter(None, (ingested, creatives)):
            _check_rows(artifact)
        make_dir(out)
        loop = _run(loaded, open_shards(loaded, ingested, creatives), out, report)
        entries = _results(loop, out)
        line = json.dumps({"rows_per_s": round(loop.rows_per_s), "step": loop.progress.step})
        atomic_write(out / "timing.jsonl", f"{line}\n".encode())
        manifest = publish(out, entries, _facts(loaded, ingested, loop.progress, key))
        shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)
        return manifest


def _check_rows(ingested: Manifest) -> None:
    splits = ingested.meta["splits"]
    empty = [name for name in ("train", "valid") if not splits[name]["rows"]]
    if empty:
        found = {name: part["rows"] for name, part in splits.items()}
        raise DataError(
            Problem(
                str(ingested.dir),
                f"no {' and no '.join(empty)} rows ({found}); training needs both",
                "Widen data.window, or move the dates of the split.",
            )
        )


def open_shards(loaded: Loaded, ingested: Manifest, creatives: Manifest | None) -> Shards:
    """Shards of the pipeline's sources, in batches of the layout of all."""
    config, layout = loaded.pipeline.creatives, loaded.layout
    if config is None or creatives is None:
        return EncodedShards(ingested, layout)
    own = [compile_layout(loaded.spec, source) for source in loaded.sources]
    return JointShards(
        EncodedShards(ingested, layout, own[0]),
        EncodedShards(creatives, layout, own[1]),
        config.batch_rows,
    )


def _run(loaded: Loaded, shards: Shards, out: Path, report: Report) -> Loop:
    config = loaded.pipeline.training
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    torch.manual_seed(config.seed)
    learner = Learner(loaded.pipeline, loaded.layout)
    checkpoints = Checkpoints(make_dir(out / _CHECKPOINTS), config.checkpoint.keep)
    weights = {t: loaded.pipeline.objectives.weight(t) for t in loaded.layout.output_names}
    progress = checkpoints.load(learner)
    if progress.step == 0:
        _start(loaded, learner, shards)
    with _stop_requests() as should_stop:
        loop = Loop(
            learner,
            shards,
            config,
            weights,
            checkpoints,
            progress,
            report,
            should_stop,
            lambda batch, step: _dump(batch, step, out),
        )
        loop.run()
    return loop


def _start(loaded: Loaded, learner: Learner, shards: Shards) -> None:
    """Set what the heads predict before the first step."""
    if loaded.layout.task_names and loaded.pipeline.model.head.start == "base_rate":
        learner.start_at_base_rates(shards.labels("train"))
    if loaded.layout.survival is not None:
        learner.start_at_marginal(shards.survival("train", SURVIVAL_ROWS))


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM came; the handler is put back afterwards."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _dump(batch: Batch, step: int, out: Path) -> str:
    """Keys of a batch's rows, and the step; never their features."""
    path = out / f"_not-finite-{step:08d}.parquet"
    keys = {"row_id": batch.row_id, "group": batch.group.numpy(), "time_us": batch.time.numpy()}
    write_table(path, pa.table({**keys, "step": pa.array([step] * batch.num_rows, pa.int64())}))
    return str(path)


def _results(loop: Loop, out: Path) -> list[FileEntry]:
    step = loop.progress.best_step
    assert step is not None, "the last step is always evaluated"
    best = loop.checkpoints.best_weights(step)
    make_dir(out / "tables")
    names = sorted(p.relative_to(best) for p in best.rglob("*.safetensors"))
    for name in names:
        atomic_write(out / name, (best / name).read_bytes())
    progress = loop.progress
    history = {"train": progress.train, "valid": progress.valid, "valid_auc": progress.valid_auc}
    history["diagnostics"] = progress.diagnostics
    counts = {"best_step": step, "steps": progress.step, "skipped_steps": progress.num_skipped}
    atomic_write(out / HISTORY, canonical({**history, **counts}))
    return [entry_of(out / name, out) for name in [*names, Path(HISTORY)]]


def _facts(loaded: Loaded, ingested: Manifest, progress: Progress, key: str) -> dict[str, Any]:
    splits = ingested.meta["splits"]
    times = [splits[s]["max_time_us"] for s in ("train", "valid")]
    known = [
        t for t in times if t is not None and loaded.spec.sources[ingested.meta["source"]].keys.time
    ]
    return {
        "run_key": key,
        "ingest": {k: ingested.meta[k] for k in ("run_key", "data_fp", "fit_fp", "spec_fp")},
        "input_fp": ingested.meta["input_fp"],
        "seed": loaded.pipeline.training.seed,
        "best_step": progress.best_step,
        "steps": progress.step,
        "trained_until_us": max(known) if known else None,
    }
