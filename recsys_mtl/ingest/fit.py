"""Fitting on train rows: one exact partial per shard, added up in any order.

Counts and sums are integers, so the fit state has the same bytes for every sharding, order and
number of workers.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import Family, collecting, column_of, refuse
from recsys_mtl.ingest.fit_state import FIT_JSON, FitState, LabelCount, fit_fp
from recsys_mtl.ingest.ids import Vocab
from recsys_mtl.ingest.inputs import IdInput, IdUse, id_uses, read_ids
from recsys_mtl.ingest.labels import encode_labels
from recsys_mtl.ingest.moments import Sums, sums_of
from recsys_mtl.ingest.numbers import Moments, apply_steps, fitted_step, number_column, read_number
from recsys_mtl.ingest.vectors import read_vectors
from recsys_mtl.spec.feature_spec import FeatureSpec, NumberFeature, VectorFeature, VocabIds
from recsys_mtl.spec.layout import SPLIT, TIME

__all__ = ["FIT_JSON", "FitState", "LabelCount", "PartialFit", "finish", "fit_fp", "partial_fit"]

_TRAIN = 0
_CONSTANT_STD = 1e-12


@dataclass(frozen=True, eq=False)
class PartialFit:
    """What one shard's train rows contribute; picklable, about the size of its distinct ids."""

    rows: int
    window_us: tuple[int, int] | None
    """First and last time; None without rows."""
    families: dict[str, Family]
    """By assembled column."""
    counts: dict[str, pa.Table]
    """By vocab table: `value` (int64 or string, sorted) and `count`."""
    sums: dict[str, Sums]
    """By number feature with `zscore: fit`, at that point of its transform."""
    missing: dict[str, int]
    labels: dict[str, LabelCount]


def partial_fit(
    train_rows: pa.Table, spec: FeatureSpec, source: str, as_of_us: int | None = None
) -> PartialFit:
    """Count one shard's train rows.

    Args:
        train_rows: assembled rows of the train split only; none is fine.
        spec: the feature spec.
        source: which of its sources the rows are of.
        as_of_us: time of the snapshot, for labels with a maturity.

    Raises:
        DataError: with all problems of all columns.
        ValueError: if `key__split` shows a row outside train.
    """
    if SPLIT in train_rows.column_names and pc.any(pc.not_equal(train_rows[SPLIT], _TRAIN)).as_py():
        raise ValueError("fit reads train rows only; filter on key__split first")
    problems: list[Problem] = []
    families: dict[str, Family] = {}
    seen: dict[str, list[pa.Table]] = defaultdict(list)
    sums: dict[str, Sums] = {}
    missing: dict[str, int] = {}
    labels: dict[str, LabelCount] = {}
    for use in id_uses(spec, source):
        with collecting(problems):
            read = read_ids(train_rows, use, spec)
            missing[use.name] = read.num_missing
            if read.family is not None:
                families[use.column] = read.family
            if isinstance(spec.tables[use.table].ids, VocabIds) and read.family is not None:
                seen[use.table].append(_value_counts(read))
    for feature in spec.features_of(source):
        if isinstance(feature, NumberFeature | VectorFeature):
            with collecting(problems):
                missing[feature.name], own = _dense(train_rows, feature)
                sums |= own
    with collecting(problems):
        tasks = spec.sources[source].labels
        for task, (label, mask) in encode_labels(train_rows, tasks, as_of_us).items():
            labels[task] = LabelCount(int(mask.sum()), int(label.sum(dtype=np.float64)))
    problems += _mixed_tables(families, spec, source)
    if problems:
        raise DataError(problems)
    counts = {table: _add_counts(parts) for table, parts in seen.items()}
    window = _window(train_rows)
    return PartialFit(train_rows.num_rows, window, families, counts, sums, missing, labels)


def finish(partials: Iterable[PartialFit], spec: FeatureSpec, source: str) -> FitState:
    """Add the partials of all shards, in any order, and settle vocabularies and moments.

    Raises:
        DataError: if there is no train row, a column changes between integers and strings, or a
            number to be z-scored has no value or only one.
    """
    parts = list(partials)
    uses = id_uses(spec, source)
    families, problems = _common_families(parts)
    problems += _mixed_tables(families, spec, source)
    if not any(part.rows for part in parts):
        fix = "Check the interval, the split and the files of the source."
        problems.append(Problem("train rows", "there are none to fit on", fix, "D041"))
    if problems:
        raise DataError(problems)
    moments = _all_moments(parts, spec, source)
    vocabs = {
        table: _vocab([part.counts[table] for part in parts if table in part.counts], ids)
        for table, ids in _vocab_tables(spec, uses).items()
    }
    for use in uses:
        family = vocabs[use.table].family if use.table in vocabs else None
        if family is not None:
            families.setdefault(use.column, family)
    windows = [part.window_us for part in parts if part.window_us is not None]
    return FitState(
        vocabs=vocabs,
        moments=moments,
        input_types=dict(sorted(families.items())),
        rows=sum(part.rows for part in parts),
        window_us=(min(first for first, _ in windows), max(last for _, last in windows)),
        missing={name: sum(p.missing[name] for p in parts) for name in parts[0].missing},
        labels={
            name: sum((p.labels[name] for p in parts), LabelCount(0, 0)) for name in parts[0].labels
        },
    )


def _value_counts(read: IdInput) -> pa.Table:
    pairs = pc.value_counts(read.values)
    values, counts = pairs.field("values"), pairs.field("counts")
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return pa.table({"value": values, "count": counts}).filter(values.is_valid())


def _add_counts(parts: Sequence[pa.Table]) -> pa.Table:
    """Distinct values in ascending order with their total counts."""
    grouped = pa.concat_tables(parts).group_by("value", use_threads=False)
    total = grouped.aggregate([("count", "sum")]).rename_columns({"count_sum": "count"})
    return total.select(["value", "count"]).sort_by("value").combine_chunks()


def _dense(
    train_rows: pa.Table, feature: NumberFeature | VectorFeature
) -> tuple[int, dict[str, Sums]]:
    """Rows without a value, and sums of a number to be z-scored."""
    if isinstance(feature, VectorFeature):
        _, present = read_vectors(train_rows, feature)
        return int((~present).sum()), {}
    raw = read_number(train_rows, feature)
    return int(np.isnan(raw).sum()), _sums(feature, raw)


def _sums(feature: NumberFeature, raw: np.ndarray) -> dict[str, Sums]:
    place = fitted_step(feature)
    if place is None:
        return {}
    values = apply_steps(feature.transform[:place], raw)
    bad = ~np.isnan(raw) & ~(np.abs(values) <= Sums.LARGEST)
    if bad.any():
        row = int(bad.argmax())
        raise refuse(
            number_column(feature),
            f"feature {feature.name!r}: {int(bad.sum()):,} rows cannot be averaged (first at row"
            f" {{row}}: {raw[row]} becomes {values[row]})",
            "Put a `clip` with finite bounds before `zscore: fit`.",
            "D052",
            row,
        )
    return {feature.name: sums_of(values)}


def _window(rows: pa.Table) -> tuple[int, int] | None:
    if rows.num_rows == 0:
        return None
    times = column_of(rows, TIME)
    return pc.min(times).as_py(), pc.max(times).as_py()


def _mixed_tables(families: dict[str, Family], spec: FeatureSpec, source: str) -> list[Problem]:
    """Vocab tables read as integers and as strings, which one `value` column cannot hold."""
    problems: list[Problem] = []
    first: dict[str, tuple[str, Family]] = {}
    for use in id_uses(spec, source):
        family = families.get(use.column)
        if family is None or not isinstance(spec.tables[use.table].ids, VocabIds):
            continue
        column, known = first.setdefault(use.table, (use.column, family))
        if family != known:
            problems.append(
                Problem(
                    f"column {use.column!r}",
                    f"holds {family} ids, but column {column!r} of the same table"
                    f" {use.table!r} holds {known} ids",
                    "Give them one type at the source, or tables of their own.",
                    "D001",
                )
            )
    return problems


def _common_families(
    parts: Sequence[PartialFit],
) -> tuple[dict[str, Family], list[Problem]]:
    seen: dict[str, set[Family]] = defaultdict(set)
    for part in parts:
        for column, family in part.families.items():
            seen[column].add(family)
    problems = [
        Problem(
            f"column {column!r}",
            "holds integers in some files and strings in others; an id column has one type",
            "Rewrite the files with one type.",
            "D033",
        )
        for column, kinds in sorted(seen.items())
        if len(kinds) > 1
    ]
    families = {column: next(iter(kinds)) for column, kinds in seen.items() if len(kinds) == 1}
    return families, problems


def _vocab_tables(spec: FeatureSpec, uses: Sequence[IdUse]) -> dict[str, VocabIds]:
    used = {use.table for use in uses}
    return {
        name: table.ids
        for name, table in spec.tables.items()
        if name in used and isinstance(table.ids, VocabIds)
    }


def _vocab(counts: Sequence[pa.Table], ids: VocabIds) -> Vocab:
    if not counts:
        return Vocab(pa.nulls(0), np.empty(0, np.int64), ids.oov_buckets)
    total = _add_counts(counts)
    frequent = total.filter(pc.greater_equal(total["count"], ids.min_count))
    order = pc.sort_indices(frequent, [("count", "descending"), ("value", "ascending")])
    kept = frequent.take(order.slice(0, ids.max_size))
    return Vocab(
        kept["value"].combine_chunks(), kept["count"].combine_chunks().to_numpy(), ids.oov_buckets
    )


def _all_moments(parts: Sequence[PartialFit], spec: FeatureSpec, source: str) -> dict[str, Moments]:
    problems: list[Problem] = []
    moments: dict[str, Moments] = {}
    for feature in spec.features_of(source):
        if isinstance(feature, NumberFeature) and fitted_step(feature) is not None:
            total = sum((part.sums[feature.name] for part in parts), Sums())
            with collecting(problems):
                moments[feature.name] = _settled(feature, total)
    if problems:
        raise DataError(problems)
    return moments


def _settled(feature: NumberFeature, total: Sums) -> Moments:
    column, fix = number_column(feature), "Remove `zscore: fit`, or the feature."
    if total.count == 0:
        raise refuse(column, "has no value in the train rows, so no mean", fix, "D010")
    mean, std = total.moments()
    if std < _CONSTANT_STD:
        message = f"feature {feature.name!r} is constant ({mean:g}) in the train rows"
        raise refuse(column, message, fix, "D010")
    return mean, std
