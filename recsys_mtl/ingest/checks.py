"""Raw data against the spec: one scan per shard, then the questions only the whole data answer."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.engines.base import worker_name
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.assemble import SourceContext, assemble
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of, ragged_ids, refuse
from recsys_mtl.ingest.fit import PartialFit, partial_fit
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.labels import outcome
from recsys_mtl.ingest.numbers import count_infinite, number_column
from recsys_mtl.ingest.splits import TRAIN
from recsys_mtl.ingest.times import time_us
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ASSIGN, NumberFeature
from recsys_mtl.spec.feature_spec import Sequence as SequenceSpec
from recsys_mtl.spec.layout import SPLIT, SPLITS, TIME

NOTHING = "Nothing was published."


@dataclass(frozen=True, slots=True)
class ScanTask:
    """One shard to scan."""

    shard: ShardTask
    ctx: SourceContext

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


@dataclass(frozen=True, slots=True, eq=False)
class SplitRows:
    """Rows of one split in a shard, and their times."""

    rows: int
    min_us: int
    max_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What one shard holds."""

    shard: ShardTask
    problems: list[Problem]
    partial: PartialFit | None
    """Of the train rows; None when the shard has problems."""
    row_ids: np.ndarray
    """uint64[B], hashes of the row ids; empty when they are assigned."""
    splits: dict[str, SplitRows]
    quarantined: int
    counts: dict[str, int]
    worker: str


def scan_shard(task: ScanTask) -> Scan:
    """Assemble a shard, check it, and count its train rows; problems are returned, not raised."""
    problems: list[Problem] = []
    assembled, partial, row_ids = None, None, np.empty(0, np.uint64)
    with collecting(problems):
        assembled = assemble(task.shard, task.ctx)
    if assembled is not None:
        with collecting(problems):
            row_ids = _row_ids(assembled.table, task.ctx)
        _check_rows(assembled.table, task.ctx, problems)
        if task.ctx.with_labels and not problems:
            with collecting(problems):
                train = assembled.table.filter(_is(assembled.table, TRAIN))
                partial = partial_fit(train, task.ctx.spec, task.ctx.source, task.ctx.as_of_us)
    where = str(task.shard.path)
    located = [p if p.where.startswith(where) else _at(p, where) for p in problems]
    return Scan(
        task.shard,
        list(dict.fromkeys(located)),
        partial,
        row_ids,
        {} if assembled is None else _splits(assembled.table, task.ctx),
        0 if assembled is None else assembled.quarantined.num_rows,
        {} if assembled is None else assembled.counts,
        worker_name(),
    )


def _at(problem: Problem, where: str) -> Problem:
    fix = problem.fix if NOTHING in problem.fix else f"{problem.fix} {NOTHING}".strip()
    return replace(problem, where=f"{where}: {problem.where}", fix=fix)


def _is(table: pa.Table, code: int) -> pa.Array:
    return pa.array(column_of(table, SPLIT).to_numpy() == code)


def _row_ids(table: pa.Table, ctx: SourceContext) -> np.ndarray:
    column = ctx.source_spec.keys.row_id
    if column == ASSIGN:
        return np.empty(0, np.uint64)
    ids = canonical_ids(column_of(table, column), column)
    if ids.null_count:
        message = f"{ids.null_count:,} rows have no row id"
        raise refuse(column, message, "Every row needs one, or use `row_id: assign`.", "D007")
    return h64(ids, 0)


def _splits(table: pa.Table, ctx: SourceContext) -> dict[str, SplitRows]:
    time = column_of(table, TIME).to_numpy()
    if not ctx.with_labels:
        return {"all": _split_rows(time)}
    codes = column_of(table, SPLIT).to_numpy()
    found = {name: _split_rows(time[codes == code]) for code, name in enumerate(SPLITS)}
    found["outside"] = _split_rows(time[codes < 0])
    return found


def _split_rows(time: np.ndarray) -> SplitRows:
    if len(time) == 0:
        return SplitRows(0, 2**62, -(2**62))
    return SplitRows(len(time), int(time.min()), int(time.max()))


def _check_rows(table: pa.Table, ctx: SourceContext, problems: list[Problem]) -> None:
    for feature in ctx.spec.features_of(ctx.source):
        if isinstance(feature, NumberFeature):
            with collecting(problems):
                _check_infinite(table, feature)
    for sequence in ctx.spec.sequences_of(ctx.source):
        if sequence.events is None:
            with collecting(problems):
                _check_sequence(table, sequence)
    if ctx.with_labels:
        with collecting(problems):
            _check_labels(table, ctx, problems)


def _check_infinite(table: pa.Table, feature: NumberFeature) -> None:
    name = number_column(feature)
    count = count_infinite(column_of(table, name), name)
    if count:
        message = f"{count:,} rows hold infinity; a number is finite, null or NaN"
        raise refuse(name, message, "Replace them at the source; null means missing.", "D052")


def _check_sequence(table: pa.Table, sequence: SequenceSpec) -> None:
    """D002, D003 and D004: aligned fields, times in order, nothing at or after the row's time."""
    names = [f"{sequence.name}__{f.name}" for f in sequence.fields]
    lengths = [ragged_ids(column_of(table, name), name, None).lengths for name in names]
    if sequence.time is None:
        times = None
    else:
        lists = column_of(table, sequence.time)
        counts = lists.value_lengths().fill_null(0).to_numpy()
        times = time_us(lists.flatten(), sequence.time, "us").to_numpy(zero_copy_only=False)
        lengths.append(counts)
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        message = f"the lists of sequence {sequence.name!r} differ in length within a row"
        raise refuse(names[0], message, "Align fields and time.", "D002")
    if times is None:
        return
    column, row = str(sequence.time), np.repeat(np.arange(table.num_rows), lengths[-1])
    if ((np.diff(times) < 0) & (np.diff(row) == 0)).any():
        raise refuse(column, "event times decrease within a row", "Oldest first.", "D003")
    limit = column_of(table, TIME).to_numpy()[row] - duration_us(sequence.cutoff)
    late = times >= limit
    if late.any():
        message = (
            f"{int(late.sum()):,} events of sequence {sequence.name!r} are at or after their row's "
            f"time minus the cutoff (first at row {row[late.argmax()]:,})"
        )
        raise refuse(column, message, "Leave out what was not known before the row.", "D004")


def _check_labels(table: pa.Table, ctx: SourceContext, problems: list[Problem]) -> None:
    """D005 and D008: outcomes are 0, 1 or null, and no child is 1 where its parent is 0."""
    outcomes = {}
    for label in ctx.source_spec.labels:
        with collecting(problems):
            outcomes[label.name] = outcome(table, label)
    for label in ctx.source_spec.labels:
        if label.parent in outcomes and label.name in outcomes:
            bad = (outcomes[label.name] == 1) & (outcomes[str(label.parent)] == 0)
            if bad.any():
                message = (
                    f"{int(bad.sum()):,} rows are 1 where parent {label.parent!r} is 0 "
                    f"(first at row {int(bad.argmax()):,})"
                )
                fix = "Mend the log, or remove `parent`."
                problems.append(Problem(f"column {label.column!r}", message, fix, "D008"))


def check_whole(scans: Sequence[Scan], ctx: SourceContext, reject_budget: float) -> list[Problem]:
    """Problems of the whole data: duplicates, rates against `quality`, one-class labels."""
    problems = [problem for scan in scans for problem in scan.problems]
    problems += _duplicates(scans, ctx)
    rows = sum(scan.shard.rows for scan in scans)
    aside = sum(scan.quarantined for scan in scans)
    if aside > reject_budget * rows:
        message = (
            f"{aside:,} of {rows:,} rows have no group or time, "
            f"more than ingest.reject_budget {reject_budget}"
        )
        problems.append(Problem("rows", message, f"Mend the log. {NOTHING}", "D007"))
    if not problems and ctx.with_labels:
        problems += [*_rates(scans, ctx), *_one_class(scans)]
    return problems


def _duplicates(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    ids = np.concatenate([scan.row_ids for scan in scans])
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(same):
        ends = np.cumsum([len(scan.row_ids) for scan in scans])
        shard = int(np.searchsorted(ends, order[same[0] + 1], "right"))
        where = f"{scans[shard].shard.path}: column {ctx.source_spec.keys.row_id!r}"
        message = f"{len(same):,} row ids repeat"
        fix = f"Remove the repeats, or use `row_id: assign`. {NOTHING}"
        yield Problem(where, message, fix, "D071")


def _rates(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    partials = [scan.partial for scan in scans if scan.partial is not None]
    rows = max(sum(p.rows for p in partials), 1)
    quality = ctx.spec.quality
    for feature in ctx.spec.features_of(ctx.source):
        own = quality.per_feature.get(feature.name)
        bound = quality.max_null_rate
        if own is not None and own.max_null_rate is not None:
            bound = own.max_null_rate
        rate = sum(p.missing[feature.name] for p in partials) / rows
        if rate > bound:
            message = f"missing in {rate:.1%} of train rows, more than {bound:.1%}"
            fix = f"Mend the source, or set quality.per_feature.{feature.name}.max_null_rate."
            where = f"column {feature.column or feature.name!r}"
            yield Problem(where, message, f"{fix} {NOTHING}", "D009")
    unmatched: Counter[str] = Counter()
    for scan in scans:
        unmatched.update(scan.counts)
    for name, count in unmatched.items():
        rate = count / max(sum(scan.shard.rows for scan in scans), 1)
        if rate > quality.max_unmatched_rate:
            side = name.removeprefix("unmatched__")
            message = f"{rate:.1%} of rows match no row, more than {quality.max_unmatched_rate:.1%}"
            fix = f"Deliver the missing rows, or raise quality.max_unmatched_rate. {NOTHING}"
            yield Problem(f"side table {side!r}", message, fix, "D009")


def _one_class(scans: Sequence[Scan]) -> Iterator[Problem]:
    totals: dict[str, list[int]] = {}
    for scan in scans:
        for task, count in scan.partial.labels.items() if scan.partial else ():
            total = totals.setdefault(task, [0, 0])
            total[0] += count.rows
            total[1] += count.positives
    for task, (rows, positives) in totals.items():
        if positives in (0, rows):
            kind = "positive" if positives == 0 else "negative"
            message = f"none of {rows:,} observed train rows is {kind}"
            fix = f"Lengthen the window, or remove the label. {NOTHING}"
            yield Problem(f"label {task!r}", message, fix, "D011")


def one_message_per_fault(problems: Sequence[Problem], shown: int = 20) -> DataError:
    """All problems as one error; the same fault in many files is shown for the first ones."""
    kept = list(problems[:shown])
    if len(problems) > shown:
        kept.append(Problem("...", f"and {len(problems) - shown} more"))
    return DataError(kept)
