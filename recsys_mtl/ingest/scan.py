"""The pass before encoding: each shard is assembled, checked, and counted for the fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.errors import Problem
from recsys_mtl.ingest.assemble import Assembled, SourceContext, assemble
from recsys_mtl.ingest.checks import check_rows
from recsys_mtl.ingest.columns import (
    Family,
    canonical_ids,
    collecting,
    column_of,
    family_of,
    refuse,
)
from recsys_mtl.ingest.fit import PartialFit, partial_fit
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.inputs import id_uses, read_ids
from recsys_mtl.ingest.raw import locate
from recsys_mtl.ingest.splits import OUTSIDE, TRAIN
from recsys_mtl.spec.feature_spec import ASSIGN
from recsys_mtl.spec.layout import SPLIT, SPLITS, TIME


@dataclass(frozen=True, slots=True)
class ScanTask:
    """One shard to scan."""

    shard: ShardTask
    ctx: SourceContext

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows of one split in a shard, and their first and last time; None without rows."""

    rows: int
    window_us: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What one shard holds."""

    shard: ShardTask
    problems: list[Problem]
    """Of this shard alone, with file and row."""
    partial: PartialFit | None = None
    """Of the train rows; None when the shard has problems."""
    row_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    """uint64[B], hashes of the row ids; empty when they are assigned."""
    families: dict[str, Family] = field(default_factory=dict)
    """What key and id columns hold, rows of all splits."""
    splits: dict[str, SplitRows] = field(default_factory=dict)
    """By split, and `outside` of all; empty when the shard could not be assembled."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Rows by reason."""
    counts: dict[str, int] = field(default_factory=dict)


def scan_shard(task: ScanTask) -> Scan:
    """Assemble a shard, check it, and count its train rows; problems are returned, not raised."""
    shard, ctx, problems = task.shard, task.ctx, list[Problem]()
    with collecting(problems):
        return _scan(shard, ctx, assemble(shard, ctx))
    return Scan(shard, problems)


def split_summary(scans: Sequence[Scan]) -> dict[str, Any]:
    """Rows and times of each split over all shards; times are None without rows."""
    summary = {}
    for name in (*SPLITS, "outside"):
        parts = [scan.splits[name] for scan in scans]
        windows = [part.window_us for part in parts if part.window_us is not None]
        summary[name] = {
            "rows": sum(part.rows for part in parts),
            "min_time_us": min((first for first, _ in windows), default=None),
            "max_time_us": max((last for _, last in windows), default=None),
        }
    return summary


def _scan(shard: ShardTask, ctx: SourceContext, assembled: Assembled) -> Scan:
    table, partial, row_ids = assembled.table, None, np.empty(0, np.uint64)
    problems: list[Problem] = []
    families: dict[str, Family | None] = {}
    with collecting(problems):
        row_ids = _row_ids(table, ctx, families)
    problems += check_rows(table, ctx)
    for use in id_uses(ctx.spec, ctx.source):
        with collecting(problems):
            families[use.column] = read_ids(table, use, ctx.spec).family
    if not problems:
        with collecting(problems):
            train = table.filter(pa.array(column_of(table, SPLIT).to_numpy() == TRAIN))
            partial = partial_fit(train, ctx.spec, ctx.source, ctx.as_of_us)
    return Scan(
        shard,
        [locate(problem, shard.path, assembled.file_rows) for problem in problems],
        partial,
        row_ids,
        {column: family for column, family in families.items() if family is not None},
        _splits(table),
        _reasons(assembled.quarantined),
        assembled.counts,
    )


def _row_ids(table: pa.Table, ctx: SourceContext, families: dict[str, Family | None]) -> np.ndarray:
    """Hashes of the row ids; notes what the keys hold."""
    keys = ctx.source_spec.keys
    if keys.group is not None:
        families[keys.group] = family_of(canonical_ids(column_of(table, keys.group), keys.group))
    if keys.row_id == ASSIGN:
        return np.empty(0, np.uint64)
    ids = canonical_ids(column_of(table, keys.row_id), keys.row_id)
    families[keys.row_id] = family_of(ids)
    if ids.null_count:
        first = ids.is_null().to_numpy(zero_copy_only=False).argmax()
        message = f"{ids.null_count:,} rows have no row id (first at row {{row}})"
        fix = "Every row needs one, or use `row_id: assign`."
        raise refuse(keys.row_id, message, fix, "D007", first)
    return h64(ids, 0)


def _splits(table: pa.Table) -> dict[str, SplitRows]:
    codes = column_of(table, SPLIT).to_numpy()
    time = column_of(table, TIME).to_numpy()
    named = {**dict(enumerate(SPLITS)), OUTSIDE: "outside"}
    return {name: _split_rows(time[codes == code]) for code, name in named.items()}


def _split_rows(time: np.ndarray) -> SplitRows:
    return SplitRows(len(time), (int(time.min()), int(time.max())) if len(time) else None)


def _reasons(quarantined: pa.Table) -> dict[str, int]:
    pairs = pc.value_counts(column_of(quarantined, "reason")).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
