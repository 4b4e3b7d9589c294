"""Assembled rows of one shard against the spec; the whole data is judged in `whole`."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import Problem
from recsys_mtl.ingest.assemble import SourceContext
from recsys_mtl.ingest.columns import collecting, column_of, ragged_ids, refuse
from recsys_mtl.ingest.labels import outcome
from recsys_mtl.ingest.numbers import fitted_step, read_number, transformed
from recsys_mtl.ingest.survival_labels import encode_survival
from recsys_mtl.ingest.times import known_before, time_us
from recsys_mtl.ingest.vectors import read_vectors
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import (
    BinaryLabel,
    NumberFeature,
    Sequence,
    TimeUnit,
    VectorFeature,
)
from recsys_mtl.spec.layout import TIME


def check_rows(table: pa.Table, ctx: SourceContext) -> list[Problem]:
    """D002 to D005, D008 and D052: all problems of all columns, with rows of the table.

    Args:
        table: assembled rows, of any split.
        ctx: the source.
    """
    problems: list[Problem] = []
    for feature in ctx.spec.features_of(ctx.source):
        if isinstance(feature, NumberFeature):
            with collecting(problems):
                _check_number(table, feature)
        elif isinstance(feature, VectorFeature):
            with collecting(problems):
                read_vectors(table, feature)
    unit = ctx.source_spec.keys.time_unit
    for sequence in ctx.spec.sequences_of(ctx.source):
        if sequence.events is None:
            with collecting(problems):
                _check_sequence(table, sequence, unit)
    if ctx.with_labels:
        problems += _check_labels(table, ctx.source_spec.labels)
        if ctx.source_spec.survival is not None:
            with collecting(problems):
                encode_survival(table, ctx.source_spec.survival)
    return problems


def _check_number(table: pa.Table, feature: NumberFeature) -> None:
    """D052: no infinity, raw or after the steps that need no fit."""
    values = read_number(table, feature)
    if fitted_step(feature) is None:
        transformed(feature, values, {})


def _check_sequence(table: pa.Table, sequence: Sequence, unit: TimeUnit) -> None:
    """D002, D003 and D004: aligned fields, times in order, nothing at or after the row's time."""
    names = [f"{sequence.name}__{f.name}" for f in sequence.fields]
    lengths = {f.column: _lengths(table, n) for f, n in zip(sequence.fields, names, strict=True)}
    if sequence.time is not None:
        lengths[sequence.time] = _lengths(table, sequence.time)
    first, *others = lengths
    for other in others:
        _refuse_where(
            lengths[first] != lengths[other],
            other,
            f"rows have lists of another length than {first!r}; the fields of sequence"
            f" {sequence.name!r} and its time are aligned",
            ("Align them at the source.", "D002"),
        )
    if sequence.time is not None:
        row = np.repeat(np.arange(table.num_rows), lengths[sequence.time])
        _check_event_times(table, sequence, unit, row)


def _check_event_times(
    table: pa.Table, sequence: Sequence, unit: TimeUnit, row: np.ndarray
) -> None:
    column = str(sequence.time)
    events = time_us(_elements(column_of(table, column)), column, unit)
    refuse_at = _refuser(column, row)
    nulls = events.is_null().to_numpy(zero_copy_only=False)
    refuse_at(nulls, "events have no time", ("Every event needs one.", "D003"))
    times = events.to_numpy()
    falls = (np.diff(times, prepend=times[:1]) < 0) & (np.diff(row, prepend=-1) == 0)
    refuse_at(falls, "events are older than the one before them", ("Oldest first.", "D003"))
    limit = known_before(column_of(table, TIME).to_numpy(), duration_us(sequence.cutoff))
    refuse_at(
        times >= limit[row],
        f"events of sequence {sequence.name!r} are at or after their row's time minus the cutoff",
        ("Leave out what was not known before the row.", "D004"),
    )


def _check_labels(table: pa.Table, labels: tuple[BinaryLabel, ...]) -> list[Problem]:
    """D005 and D008: outcomes are 0, 1 or null, and no child is 1 where its parent is 0."""
    problems: list[Problem] = []
    outcomes: dict[str | None, np.ndarray] = {}
    for label in labels:
        with collecting(problems):
            outcomes[label.name] = outcome(table, label)
    for label in labels:
        if label.parent in outcomes and label.name in outcomes:
            with collecting(problems):
                _refuse_where(
                    (outcomes[label.name] == 1) & (outcomes[label.parent] == 0),
                    label.column,
                    f"rows are 1 where parent {label.parent!r} is 0",
                    ("Mend the log, or remove `parent`.", "D008"),
                )
    return problems


def _lengths(table: pa.Table, name: str) -> np.ndarray:
    column = column_of(table, name)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths: np.ndarray = column.value_lengths().fill_null(0).to_numpy()
        return lengths
    return ragged_ids(column, name).lengths


def _elements(column: pa.Array) -> pa.Array:
    return (
        column.slice(0, 0).cast(pa.int64()) if pa.types.is_null(column.type) else column.flatten()
    )


def _refuser(column: str, row: np.ndarray) -> Callable[[np.ndarray, str, tuple[str, str]], None]:
    """`_refuse_where` for flags per event, with each event's row."""

    def refuse_at(bad: np.ndarray, message: str, way_out: tuple[str, str]) -> None:
        _refuse_where(bad, column, message, way_out, row)

    return refuse_at


def _refuse_where(
    bad: np.ndarray,
    column: str,
    message: str,
    way_out: tuple[str, str],
    row: np.ndarray | None = None,
) -> None:
    """Raise if a flag is set: how many, what, and the first row. `way_out` is fix and code."""
    if bad.any():
        first = bad.argmax() if row is None else row[bad.argmax()]
        fix, code = way_out
        raise refuse(
            column, f"{int(bad.sum()):,} {message} (first at row {{row}})", fix, code, first
        )
