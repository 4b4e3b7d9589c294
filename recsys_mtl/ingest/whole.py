"""Questions that only the whole data answer: repeats, rates, types across files, empty splits."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import Problem
from recsys_mtl.ingest.assemble import SourceContext
from recsys_mtl.ingest.columns import Family, canonical_ids, column_of
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.raw import NOTHING, first_row_of, read_rows
from recsys_mtl.ingest.scan import Scan, split_summary
from recsys_mtl.spec.feature_spec import ColumnSplit
from recsys_mtl.spec.layout import SPLITS

_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_whole(scans: Sequence[Scan], ctx: SourceContext, reject_budget: float) -> list[Problem]:
    """All problems of a run with labels: those of the shards, then those of the whole data.

    What is counted over rows (missing values, splits, classes) is judged only if every shard
    could be counted.

    Args:
        scans: of all shards, in their order.
        ctx: the source.
        reject_budget: share of rows that may be quarantined.
    """
    problems = _few_of_each(scans)
    problems += [*_over_budget(scans, reject_budget), *_repeats(scans, ctx), *_mixed_types(scans)]
    if all(scan.partial is not None for scan in scans):
        problems += [*_missing(scans, ctx), *_unmatched(scans, ctx)]
        problems += [*_empty_splits(scans, ctx), *_one_class(scans)]
    return problems


def _few_of_each(scans: Sequence[Scan]) -> list[Problem]:
    """Problems of the shards; one fault in many shards is shown for the first of them."""
    groups: dict[tuple[str, str], dict[Problem, None]] = {}
    for scan in scans:
        for problem in scan.problems:
            place = problem.where.removeprefix(str(scan.shard.path)) or problem.message
            groups.setdefault((place, problem.code), {})[problem] = None
    shown: list[Problem] = []
    for (_, code), alike in groups.items():
        group = list(alike)
        shown += group[:_SHOWN]
        if len(group) > _SHOWN:
            text = f"the same in {len(group) - _SHOWN:,} more shards"
            shown.append(Problem(group[-1].where, text, code=code))
    return shown


def _over_budget(scans: Sequence[Scan], reject_budget: float) -> Iterator[Problem]:
    rows = _num_rows(scans)
    reasons = sum((Counter(scan.quarantined) for scan in scans), Counter[str]())
    if reasons.total() > reject_budget * rows:
        first = next(scan for scan in scans if scan.quarantined)
        counts = ", ".join(f"{count:,} with {reason}" for reason, count in sorted(reasons.items()))
        message = (
            f"{reasons.total():,} of {rows:,} rows lack a key ({counts}), more than"
            f" ingest.reject_budget {reject_budget:g} allows; this is the first such file"
        )
        fix = f"Mend the log, or raise the budget to leave them out. {NOTHING}"
        yield Problem(str(first.shard.path), message, fix, "D007")


def _repeats(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    """D071, exact: rows whose hashes meet are read again and compared by value."""
    hashes = np.sort(np.concatenate([scan.row_ids for scan in scans]))
    suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if len(suspects) == 0:
        return
    column = ctx.source_spec.keys.row_id
    read = [_ids_among(scan, ctx, column, suspects) for scan in scans]
    values = pa.chunked_array([ids for ids, _ in read]).combine_chunks()
    # Codes count up in order of first sight, so a value seen before does not exceed the largest.
    code = values.dictionary_encode().indices.to_numpy()
    again = np.flatnonzero(code[1:] <= np.maximum.accumulate(code)[:-1]) + 1
    if len(again) == 0:
        return
    ends = np.cumsum([len(ids) for ids, _ in read])
    rows = np.concatenate([rows for _, rows in read])
    other = int((code == code[again[0]]).argmax())
    here, there = (scans[int(np.searchsorted(ends, i, "right"))] for i in (again[0], other))
    same = "of this file" if here.shard.path == there.shard.path else f"of {there.shard.path}"
    message = (
        f"{len(again):,} row ids repeat (first at row {{row}}: that of row {rows[other]:,} {same})"
    )
    fix = f"Remove the repeats, or use `row_id: assign`. {NOTHING}"
    where = f"{here.shard.path}: column {column!r}"
    yield Problem(where, message, fix, "D071", int(rows[again[0]]))


def _ids_among(
    scan: Scan, ctx: SourceContext, column: str, hashes: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """Row ids of a shard whose hash is among `hashes`, and their rows in the file."""
    if not np.isin(scan.row_ids, hashes).any():
        return pa.array([], pa.string()), np.empty(0, np.int64)
    shard = scan.shard
    rows = read_rows(shard.path, ctx.row_format, shard.row_groups, [column])
    ids = canonical_ids(column_of(rows, column), column)
    place = np.flatnonzero(np.isin(h64(ids, 0), hashes))
    text = ids.take(pa.array(place)).cast(pa.string())
    return text, place + first_row_of(shard.path, shard.row_groups)


def _mixed_types(scans: Sequence[Scan]) -> Iterator[Problem]:
    """D033: a key or id column holds integers in some shards and strings in others."""
    first: dict[str, tuple[Family, Path]] = {}
    reported: set[str] = set()
    for scan in scans:
        for column, family in scan.families.items():
            known, path = first.setdefault(column, (family, scan.shard.path))
            if family != known and column not in reported:
                reported.add(column)
                message = f"holds {family} ids, but {known} ids in {path}; 7 and '7' are different"
                fix = f"Rewrite the files with one type. {NOTHING}"
                yield Problem(f"{scan.shard.path}: column {column!r}", message, fix, "D033")


def _missing(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    """D009: features that are missing too often in train rows."""
    partials = [scan.partial for scan in scans if scan.partial is not None]
    rows = max(sum(partial.rows for partial in partials), 1)
    quality = ctx.spec.quality
    for feature in ctx.spec.features_of(ctx.source):
        own = quality.per_feature.get(feature.name)
        bound = own.max_null_rate if own is not None else None
        bound = quality.max_null_rate if bound is None else bound
        rate = sum(partial.missing[feature.name] for partial in partials) / rows
        if rate > bound:
            message = f"missing in {rate:.1%} of train rows, more than {bound:.1%}"
            fix = f"Mend the source, or set quality.per_feature.{feature.name}.max_null_rate."
            where = f"column {feature.column or feature.name!r}"
            yield Problem(where, message, f"{fix} {NOTHING}", "D009")


def _unmatched(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    """D009: side tables that too many rows do not find."""
    rows, bound = max(_num_rows(scans), 1), ctx.spec.quality.max_unmatched_rate
    totals = sum((Counter(scan.counts) for scan in scans), Counter[str]())
    for name, count in totals.items():
        if count / rows > bound:
            message = f"{count / rows:.1%} of rows match no row, more than {bound:.1%}"
            fix = f"Deliver the missing rows, or raise quality.max_unmatched_rate. {NOTHING}"
            side = name.removeprefix("unmatched__")
            yield Problem(f"side table {side!r}", message, fix, "D009")


def _empty_splits(scans: Sequence[Scan], ctx: SourceContext) -> Iterator[Problem]:
    """D041: no row to train, validate or test on."""
    summary = split_summary(scans)
    empty = [name for name in SPLITS if summary[name]["rows"] == 0]
    split = ctx.spec.split
    for name in empty:
        if ctx.bounds is None and isinstance(split, ColumnSplit):
            found = f"column {split.column!r} has no row of the {name} split"
            fix = "Correct the values under `split` in the feature spec."
        else:
            found = f"there are none; rows lie {_span(summary.values())}"
            fix = "Check the interval, data.window, the split, data.utc_offset and keys.time_unit."
        yield Problem(f"{name} rows", found, f"{fix} {NOTHING}", "D041")


def _span(parts: Iterable[dict[str, int | None]]) -> str:
    known = [part for part in parts if part["rows"]]
    edges = [part[key] or 0 for part in known for key in ("min_time_us", "max_time_us")]
    if not edges:
        return "nowhere"
    first, last = (_text(time) for time in (min(edges), max(edges)))
    return f"between {first} and {last} UTC"


def _text(time_us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M")
    except OverflowError:
        return f"{time_us:,} us"


def _one_class(scans: Sequence[Scan]) -> Iterator[Problem]:
    """D011: labels that are never, or always, 1 in the train rows."""
    totals: dict[str, list[int]] = {}
    for scan in scans:
        for task, count in scan.partial.labels.items() if scan.partial else ():
            total = totals.setdefault(task, [0, 0])
            total[0] += count.rows
            total[1] += count.positives
    for task, (rows, positives) in totals.items():
        if positives in (0, rows) and any(scan.splits["train"].rows for scan in scans):
            kind = "positive" if positives == 0 else "negative"
            message = f"none of {rows:,} observed train rows is {kind}"
            fix = f"Lengthen the window, or remove the label. {NOTHING}"
            yield Problem(f"label {task!r}", message, fix, "D011")


def _num_rows(scans: Sequence[Scan]) -> int:
    return sum(scan.shard.rows for scan in scans)
