"""Raw rows plus side tables plus histories: the one input of `encode`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.history import EventIndex, key_hash
from recsys_mtl.ingest.splits import TimeBounds, column_codes
from recsys_mtl.ingest.times import time_us
from recsys_mtl.ingest.transform import encode
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ASSIGN, ColumnSplit, FeatureSpec, Sequence, Source
from recsys_mtl.spec.layout import ROW_ID, SPLIT, TIME
from recsys_mtl.spec.suggest import did_you_mean


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
    quarantined: pa.Table
    """Rows without a group or time: row number in the input (int64) and reason."""
    counts: dict[str, int] = field(default_factory=dict)
    """`unmatched__<side>`: rows without a side row."""


def read_rows(path: Path, file_format: str, row_groups: tuple[int, ...] = ()) -> pa.Table:
    """Read raw rows; all row groups when none are named.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        if file_format == "csv":
            return csv.read_csv(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read_row_groups(row_groups) if row_groups else file.read()
    except (pa.ArrowException, OSError) as error:
        text = str(error).splitlines()[0]
        fix = "Deliver the file again. Nothing was published."
        raise DataError(Problem(str(path), f"cannot be read: {text}", fix, "D020")) from None


def assemble(task: ShardTask, ctx: SourceContext) -> Assembled:
    """Assemble the rows of one shard, in input order.

    Raises:
        DataError: naming the file and column of what does not fit, all missing columns at once.
    """
    raw = read_rows(task.path, ctx.row_format, task.row_groups)
    source = ctx.source_spec
    needed = raw_columns(ctx)
    missing = [name for name in needed if name not in raw.column_names]
    if missing:
        raise DataError([_missing(task.path, name, raw.column_names) for name in missing])
    rows = raw.select(needed)
    if source.keys.row_id == ASSIGN:
        number = np.arange(task.first_row, task.first_row + rows.num_rows)
        rows = rows.append_column(ROW_ID, pa.array(number))
    rows, quarantined = _quarantine(rows, ctx, task.first_row)
    rows = rows.append_column(TIME, _time(rows, source))
    assembled = Assembled(rows, quarantined)
    for join in source.joins:
        _join(assembled, ctx, join.side, join.key)
    for sequence in ctx.spec.sequences_of(ctx.source):
        assembled.table = _with_history(assembled.table, ctx, sequence)
    if ctx.with_labels:
        assembled.table = assembled.table.append_column(SPLIT, _split(assembled.table, ctx))
    return assembled


def encode_rows(task: ShardTask, ctx: SourceContext, fit: FitState) -> tuple[Assembled, pa.Table]:
    """A shard's assembled rows and their encoding, in input order."""
    assembled = assemble(task, ctx)
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
        if isinstance(ctx.spec.split, ColumnSplit):
            yield ctx.spec.split.column


def _missing(path: Path, name: str, present: list[str]) -> Problem:
    message = f"column {name!r} is missing{did_you_mean(name, present)}"
    fix = "Deliver it, or correct the name in the feature spec. Nothing was published."
    return Problem(str(path), message, fix, "D001")


def _quarantine(rows: pa.Table, ctx: SourceContext, first_row: int) -> tuple[pa.Table, pa.Table]:
    """Set rows without a group or time aside."""
    keys = ctx.source_spec.keys
    number = np.arange(first_row, first_row + rows.num_rows)
    reason = np.full(rows.num_rows, "", object)
    for column in filter(None, (keys.group, keys.time)):
        values = column_of(rows, column)
        null = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        reason[null] = f"no {column}"
    bad = reason != ""
    aside = pa.table({"row": number[bad], "reason": pa.array(reason[bad], pa.string())})
    return (rows.filter(pa.array(~bad)) if bad.any() else rows), aside


def _time(rows: pa.Table, source: Source) -> pa.Array:
    keys = source.keys
    if keys.time is None:
        return pa.array(np.zeros(rows.num_rows, np.int64))
    return time_us(column_of(rows, keys.time), keys.time, keys.time_unit)


@lru_cache(maxsize=32)
def _side_table(paths: tuple[Path, ...], file_format: str, key: str) -> tuple[pa.Table, pa.Array]:
    """A side table and its canonical keys; read once per process."""
    table = pa.concat_tables(read_rows(path, file_format) for path in paths).combine_chunks()
    if key not in table.column_names:
        raise DataError(_missing(paths[0], key, table.column_names))
    keys = canonical_ids(column_of(table, key), key)
    if pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    repeats = len(keys) - pc.count_distinct(keys, mode="all").as_py()
    if repeats:
        message = f"column {key!r} repeats {repeats:,} keys; a side table has one row per key"
        raise DataError(Problem(str(paths[0]), message, "Keep one row per key.", "D007"))
    return table, keys


def _join(assembled: Assembled, ctx: SourceContext, side: str, key: str) -> None:
    """Add the side's columns as `<side>.<column>`; a missing match is a missing value, counted."""
    table, keys = _side_table(ctx.sides[side], ctx.formats[side], key)
    own = canonical_ids(column_of(assembled.table, key), key)
    if pa.types.is_dictionary(own.type):
        own = own.dictionary_decode()
    if own.type != keys.type:
        message = f"key {key!r} holds {own.type}, in side table {side!r} {keys.type}"
        fix = "Deliver the key with one type. Nothing was published."
        raise DataError(Problem(str(ctx.sides[side][0]), message, fix, "D001"))
    match = pc.index_in(own, value_set=keys)
    assembled.counts[f"unmatched__{side}"] = int(match.null_count)
    for name in _side_columns(ctx, side):
        if name not in table.column_names:
            raise DataError(_missing(ctx.sides[side][0], name, table.column_names))
        values = table[name].combine_chunks().take(match)
        assembled.table = assembled.table.append_column(f"{side}.{name}", values)


def _side_columns(ctx: SourceContext, side: str) -> list[str]:
    columns = [f.column or f.name for f in ctx.spec.features_of(ctx.source)]
    prefix = f"{side}."
    return list(dict.fromkeys(c.removeprefix(prefix) for c in columns if c.startswith(prefix)))


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
        before = column_of(rows, TIME).to_numpy() - duration_us(sequence.cutoff)
    keys = key_hash(column_of(rows, log.key), log.key)
    offsets, indices = index.lookup(keys, before, sequence.max_len)
    for f in sequence.fields:
        name = f"{sequence.name}__{f.name}"
        rows = rows.append_column(name, index.lists(f.name, offsets, indices))
    return rows


def _split(rows: pa.Table, ctx: SourceContext) -> pa.Array:
    split = ctx.spec.split
    if ctx.bounds is not None:
        codes = ctx.bounds.codes(column_of(rows, TIME).to_numpy())
    else:
        assert isinstance(split, ColumnSplit)
        row_id = ctx.source_spec.keys.row_id
        codes = column_codes(rows, split, column_of(rows, ROW_ID if row_id == ASSIGN else row_id))
    return pa.array(codes)
