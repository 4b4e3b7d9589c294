"""Raw rows plus side tables plus histories: the one input of `encode`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.history import EventIndex
from recsys_mtl.ingest.joins import SideFiles, join_side, side_columns
from recsys_mtl.ingest.raw import first_row_of, located, read_rows
from recsys_mtl.ingest.splits import TimeBounds, column_codes
from recsys_mtl.ingest.times import known_before, time_us
from recsys_mtl.ingest.transform import encode
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ASSIGN, ColumnSplit, FeatureSpec, Sequence, Source
from recsys_mtl.spec.layout import ROW_ID, SPLIT, TIME

__all__ = [
    "Assembled",
    "SourceContext",
    "assemble",
    "encode_rows",
    "raw_columns",
    "read_rows",
]


@dataclass(frozen=True)
class SourceContext:
    """Everything besides a shard that assembling its rows depends on; picklable."""

    spec: FeatureSpec
    source: str
    row_format: str
    sides: dict[str, tuple[Path, ...]]
    formats: dict[str, str]
    indexes: dict[str, Path]
    """Event index of each sequence that is built from a log."""
    bounds: TimeBounds | None
    """Windows of a split by time."""
    as_of_us: int | None
    with_labels: bool

    @property
    def source_spec(self) -> Source:
        """Keys, joins, logs and labels of the source."""
        return self.spec.sources[self.source]


@dataclass(slots=True)
class Assembled:
    """Rows of one shard and what happened to them."""

    table: pa.Table
    """B rows: columns by spec name, `<side>.<column>`, `<sequence>__<field>`, keys, `key__time`,
    and with labels `key__split`."""
    file_rows: np.ndarray
    """int64[B], number of each row in its file, from 0."""
    quarantined: pa.Table
    """Rows without a group or time: `row_id` as it was, `row` (int64, in the file), `reason`."""
    counts: dict[str, int] = field(default_factory=dict)
    """`unmatched__<side>`: rows without a side row."""


def assemble(task: ShardTask, ctx: SourceContext) -> Assembled:
    """Assemble the rows of one shard, in input order.

    Raises:
        DataError: naming the file and column of what does not fit, all missing columns at once.
    """
    keys = ctx.source_spec.keys
    rows = read_rows(task.path, ctx.row_format, task.row_groups, raw_columns(ctx))
    number = np.arange(rows.num_rows)
    if keys.row_id == ASSIGN:
        rows = rows.append_column(ROW_ID, pa.array(task.first_row + number))
    file_rows = first_row_of(task.path, task.row_groups) + number
    assembled = _set_aside(rows, ctx, file_rows)
    with located(task.path, assembled.file_rows):
        time = _time(assembled.table, ctx.source_spec)
        assembled.table = assembled.table.append_column(TIME, time)
        for join in ctx.source_spec.joins:
            _join(assembled, ctx, join.side, join.key)
        for sequence in ctx.spec.sequences_of(ctx.source):
            assembled.table = _with_history(assembled.table, ctx, sequence)
        if ctx.with_labels:
            split = pa.array(_split(assembled.table, ctx))
            assembled.table = assembled.table.append_column(SPLIT, split)
    return assembled


def encode_rows(task: ShardTask, ctx: SourceContext, fit: FitState) -> tuple[Assembled, pa.Table]:
    """A shard's assembled rows and their encoding, in input order.

    Raises:
        DataError: naming the file, its row and column of all that does not fit.
    """
    assembled = assemble(task, ctx)
    with located(task.path, assembled.file_rows):
        encoded = encode(
            assembled.table,
            ctx.spec,
            ctx.source,
            fit,
            with_labels=ctx.with_labels,
            as_of_us=ctx.as_of_us,
        )
    return assembled, encoded


def raw_columns(ctx: SourceContext) -> list[str]:
    """Columns of the source's own files that are read, each once, in spec order."""
    return list(dict.fromkeys(name for name in _raw_columns(ctx) if "." not in name))


def _raw_columns(ctx: SourceContext) -> Iterator[str]:
    source, keys = ctx.source_spec, ctx.source_spec.keys
    yield from (k for k in (keys.row_id, keys.group, keys.time) if k not in (None, ASSIGN))
    yield from (join.key for join in source.joins)
    for f in ctx.spec.features_of(ctx.source):
        yield f.column or f.name
    for sequence in ctx.spec.sequences_of(ctx.source):
        if sequence.events is not None:
            yield source.events[sequence.events.log].key
        else:
            yield from (f.column for f in sequence.fields)
            yield from (sequence.time,) if sequence.time else ()
    if ctx.with_labels:
        for label in source.labels:
            yield label.column
            yield from (label.observed.column,) if label.observed else ()
        yield from source.survival.columns if source.survival else ()
        if isinstance(ctx.spec.split, ColumnSplit):
            yield ctx.spec.split.column
    elif source.survival:
        yield source.survival.entry


def _set_aside(rows: pa.Table, ctx: SourceContext, file_rows: np.ndarray) -> Assembled:
    """Quarantine rows without a group or time."""
    keys = ctx.source_spec.keys
    reason = np.full(rows.num_rows, "", object)
    for column in filter(None, (keys.time, keys.group)):
        null = column_of(rows, column).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        reason[null] = f"no {column}"
    bad = reason != ""
    row_id = column_of(rows, ROW_ID if keys.row_id == ASSIGN else keys.row_id)
    aside = {
        "row_id": row_id.filter(pa.array(bad)),
        "row": file_rows[bad],
        "reason": pa.array(reason[bad], pa.string()),
    }
    kept = rows.filter(pa.array(~bad)) if bad.any() else rows
    return Assembled(kept, file_rows[~bad], pa.table(aside))


def _time(rows: pa.Table, source: Source) -> pa.Array:
    keys = source.keys
    if keys.time is None:
        return pa.array(np.zeros(rows.num_rows, np.int64))
    return time_us(column_of(rows, keys.time), keys.time, keys.time_unit)


def _join(assembled: Assembled, ctx: SourceContext, side: str, key: str) -> None:
    files = SideFiles.of(ctx.sides[side], ctx.formats[side])
    columns = side_columns(ctx.spec, ctx.source, side)
    assembled.table, unmatched = join_side(assembled.table, side, key, files, columns)
    assembled.counts[f"unmatched__{side}"] = unmatched


@lru_cache(maxsize=32)
def _index(path: Path) -> EventIndex:
    return EventIndex.open(path)


def _with_history(rows: pa.Table, ctx: SourceContext, sequence: Sequence) -> pa.Table:
    """Add `<sequence>__<field>` list columns."""
    if sequence.events is None:
        for f in sequence.fields:
            rows = rows.append_column(f"{sequence.name}__{f.name}", column_of(rows, f.column))
        return rows
    log = ctx.source_spec.events[sequence.events.log]
    index = _index(ctx.indexes[sequence.name])
    before = None
    if log.time is not None:
        before = known_before(column_of(rows, TIME).to_numpy(), duration_us(sequence.cutoff))
    keys = index.hashes(column_of(rows, log.key), log.key)
    offsets, indices = index.lookup(keys, before, sequence.max_len)
    for f in sequence.fields:
        name = f"{sequence.name}__{f.name}"
        rows = rows.append_column(name, index.lists(f.name, offsets, indices))
    return rows


def _split(rows: pa.Table, ctx: SourceContext) -> np.ndarray:
    split = ctx.spec.split
    if ctx.bounds is not None:
        return ctx.bounds.codes(column_of(rows, TIME).to_numpy())
    assert isinstance(split, ColumnSplit)
    key = ctx.source_spec.keys.row_id
    key = ROW_ID if key == ASSIGN else key
    return column_codes(rows, split, canonical_ids(column_of(rows, key), key))
