"""Ingestion: plan, scan and fit on train rows, encode shards, publish."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.receipts import Receipt, write_receipt
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.engines import make_engine
from recsys_mtl.engines.base import Engine
from recsys_mtl.errors import DataError, IntegrityError, Problem
from recsys_mtl.ingest.assemble import SourceContext, assemble
from recsys_mtl.ingest.columns import collecting
from recsys_mtl.ingest.context import Inputs, resolve_inputs, source_context, verify_inputs
from recsys_mtl.ingest.fit import FitState, finish, fit_fp
from recsys_mtl.ingest.scan import Scan, ScanTask, scan_shard, split_summary
from recsys_mtl.ingest.shards import FIT, EncodeTask, encode_shard
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.ingest.whole import check_whole
from recsys_mtl.spec.fingerprint import canonical, input_fp, spec_fp
from recsys_mtl.spec.layout import SPLIT
from recsys_mtl.spec.load import Loaded

__all__ = [
    "FIT",
    "SAMPLE",
    "Inputs",
    "ingest",
    "resolve_inputs",
    "silent",
    "source_context",
    "validate",
]

Report = Callable[..., None]
"""progress(done, total, **numbers)."""
SAMPLE = "sample.parquet"
_SAMPLE_ROWS = 256


def silent(done: int, total: int, **numbers: float | str) -> None:
    """Progress that nobody watches."""


def ingest(loaded: Loaded, interval_end: str | None, progress: Report = silent) -> Manifest:
    """Make the encoded shards of a window, or return them if they are published.

    Raises:
        DataError: with all problems of the data; nothing is published.
        NothingToDoError: if the window holds no partition.
        TransientError: if another run is making the same shards.
    """
    inputs = resolve_inputs(loaded, interval_end)
    key = _run_key(loaded, inputs, "ingest")
    out = stage_dir(loaded.home, loaded.pipeline.name, "ingest", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        with (
            source_context(loaded, loaded.spec, inputs.files, inputs.interval, out, True) as ctx,
            make_engine(loaded.pipeline.ingest) as engine,
        ):
            scans, problems, fit = _examined(loaded, inputs, ctx, engine, progress)
            if problems or fit is None:
                raise DataError(problems)
            entries = [*fit.save(out / FIT, out)]
            receipts = _encode(inputs, ctx, engine, out, progress)
            entries += [entry for receipt in receipts for entry in receipt.files]
            entries += [write_receipt(out, receipt) for receipt in receipts]
            entries.append(_sample(scans, ctx, out))
        verify_inputs(inputs)
        facts = {**_facts(inputs, ctx, fit, scans), **_accounts(inputs, receipts)}
        return publish(out, entries, {"run_key": key, **facts})


def validate(
    loaded: Loaded, interval_end: str | None, progress: Report = silent
) -> tuple[list[Problem], dict[str, Any]]:
    """Run the checks of `ingest` without publishing anything.

    Returns:
        The problems found and the rows of each split.

    Raises:
        DataError, NothingToDoError: as `ingest`, if there are no rows that could be checked.
    """
    inputs = resolve_inputs(loaded, interval_end)
    work = stage_dir(
        loaded.home, loaded.pipeline.name, "validate", _run_key(loaded, inputs, "validate")
    )
    with stage_lock(work):
        try:
            with (
                source_context(
                    loaded, loaded.spec, inputs.files, inputs.interval, make_dir(work), True
                ) as ctx,
                make_engine(loaded.pipeline.ingest) as engine,
            ):
                scans, problems, _ = _examined(loaded, inputs, ctx, engine, progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return problems, split_summary(scans) if not problems else {}


def _run_key(loaded: Loaded, inputs: Inputs, stage: str) -> str:
    config = loaded.pipeline.ingest
    settings = {
        "source": loaded.pipeline.data.source,
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "split": loaded.pipeline.split.model_dump() if loaded.pipeline.split else None,
        "shard_rows": config.shard_rows,
        "reject_budget": config.reject_budget,
        "utc_offset": loaded.pipeline.data.utc_offset,
    }
    return run_key(
        stage,
        data_fp=inputs.data_fp,
        spec_fp=spec_fp(loaded.spec),
        settings=canonical(settings).decode(),
    )


def _examined(
    loaded: Loaded, inputs: Inputs, ctx: SourceContext, engine: Engine, progress: Report
) -> tuple[list[Scan], list[Problem], FitState | None]:
    """Scans of all shards in their order, what is wrong with them, and the fit if nothing is."""
    shards = inputs.plan.tasks
    scans: list[Scan] = []
    for scan in engine.map(scan_shard, [ScanTask(shard, ctx) for shard in shards]):
        scans.append(scan)
        progress(len(scans), 2 * len(shards), step="fit")
    scans.sort(key=lambda scan: scan.shard.index)
    problems = check_whole(scans, ctx, loaded.pipeline.ingest.reject_budget)
    partials = [scan.partial for scan in scans if scan.partial is not None]
    fit = None
    # Without any row to fit on, or with mixed types, `finish` would only say so again.
    if len(partials) == len(scans) and not {"D033", "D041"} & {p.code for p in problems}:
        with collecting(problems):
            fit = finish(partials, ctx.spec, ctx.source)
    return scans, problems, fit


def _encode(
    inputs: Inputs, ctx: SourceContext, engine: Engine, out: Path, progress: Report
) -> list[Receipt]:
    """Receipts of all shards; `timing.jsonl` says who wrote them."""
    shards = inputs.plan.tasks
    tasks = [EncodeTask(s, len(shards), ctx, out, inputs.files.root) for s in shards]
    receipts, workers, rows = [], {}, 0
    for receipt, worker in engine.map(encode_shard, tasks):
        receipts.append(receipt)
        workers[receipt.index] = worker
        rows += receipt.rows_out
        progress(len(shards) + len(receipts), 2 * len(shards), step="encode", rows=rows)
    lines = [json.dumps({"shard": i, "worker": w}) for i, w in sorted(workers.items())]
    atomic_write(out / "timing.jsonl", ("\n".join(lines) + "\n").encode())
    return receipts


def _sample(scans: Sequence[Scan], ctx: SourceContext, out: Path) -> FileEntry:
    """A few assembled test rows, from which bundles make their golden rows."""
    parts: list[pa.Table] = []
    for scan in scans:
        if scan.splits["test"].rows and sum(part.num_rows for part in parts) < _SAMPLE_ROWS:
            rows = assemble(scan.shard, ctx).table
            parts.append(rows.filter(pa.array(rows[SPLIT].to_numpy() == TEST)))
    sample = pa.concat_tables(parts, promote_options="permissive").slice(0, _SAMPLE_ROWS)
    return write_table(out / SAMPLE, sample, out)


def _facts(
    inputs: Inputs, ctx: SourceContext, fit: FitState, scans: Sequence[Scan]
) -> dict[str, Any]:
    return {
        "spec_fp": spec_fp(ctx.spec),
        "input_fp": input_fp(ctx.spec),
        "fit_fp": fit_fp(fit, ctx.spec),
        "data_fp": inputs.data_fp,
        "source": ctx.source,
        "interval": inputs.interval.as_json() if inputs.interval else None,
        "splits": split_summary(scans),
    }


def _accounts(inputs: Inputs, receipts: Sequence[Receipt]) -> dict[str, int]:
    """Rows that came in, went out and were set aside.

    Raises:
        IntegrityError: if the receipts do not add up to the plan; nothing was published.
    """
    rows_in = sum(receipt.rows_in for receipt in receipts)
    rows_out = sum(receipt.rows_out for receipt in receipts)
    aside = sum(receipt.rows_quarantined for receipt in receipts)
    if not inputs.plan.rows == rows_in == rows_out + aside:
        raise IntegrityError(
            f"{inputs.plan.rows:,} rows are planned, but the receipts hold {rows_in:,} in,"
            f" {rows_out:,} out and {aside:,} quarantined; nothing was published"
        )
    return {"rows_in": rows_in, "rows_out": rows_out, "rows_quarantined": aside}
