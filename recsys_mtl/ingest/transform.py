"""From assembled rows to model inputs: the one transform of training, evaluation and scoring.

Every value depends on its own row and the fit state only, so batches, shards and column order
never change a result.
"""

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of, refuse
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.ids import table_ids
from recsys_mtl.ingest.inputs import IdInput, IdUse, id_uses, read_ids
from recsys_mtl.ingest.labels import encode_labels
from recsys_mtl.ingest.numbers import bucket_ids, filled, missing_flags, read_number, transformed
from recsys_mtl.ingest.survival_labels import encode_entry, encode_survival
from recsys_mtl.ingest.vectors import read_vectors
from recsys_mtl.spec.feature_spec import (
    ASSIGN,
    Feature,
    FeatureSpec,
    Keys,
    NumberFeature,
    VectorFeature,
)
from recsys_mtl.spec.layout import (
    GROUP,
    ROW_ID,
    SPLIT,
    TIME,
    Layout,
    compile_layout,
    label_column,
    mask_column,
    missing_column,
    outcome_columns,
    survival_column,
    vector_columns,
)

_GROUP_SEED = 0
_MAX_OFFSET = 2**31 - 1


def encode(
    assembled: pa.Table,
    spec: FeatureSpec,
    source: str,
    fit: FitState,
    *,
    with_labels: bool,
    as_of_us: int | None = None,
) -> pa.Table:
    """Encode rows; their order and number stay.

    Args:
        assembled: raw columns under their spec names, `<sequence>__<field>` lists, key columns,
            `key__time` and `key__split` (B rows).
        spec: the feature spec.
        source: which of its sources the rows are of.
        fit: what was learned on train rows.
        with_labels: add the split, labels and masks.
        as_of_us: time of the snapshot, against which label maturity is judged.

    Returns:
        B rows without nulls; columns `encoded_columns(layout, with_labels)`: row id int64 or
        string, group and time int64, split int8, bags int64 or list<int64>, sequence fields
        list<int64> oldest first, dense and labels float32, masks bool.

    Raises:
        DataError: with all problems of all columns.
    """
    layout = compile_layout(spec, source)
    problems: list[Problem] = []
    columns: dict[str, pa.Array] = {}
    keys = spec.sources[source].keys
    with collecting(problems):
        columns[ROW_ID] = _row_id(assembled, keys)
        columns[GROUP] = _group(assembled, keys, columns[ROW_ID])
    with collecting(problems):
        columns[TIME] = _whole(assembled, TIME, pa.int64())
    for use in id_uses(spec, source):
        with collecting(problems):
            columns[use.name] = _encode_ids(assembled, use, spec, fit)
    for feature in spec.features_of(source):
        with collecting(problems):
            columns |= _encode_dense(assembled, feature, fit)
    with collecting(problems):
        columns |= _encode_outcomes(assembled, layout, as_of_us, with_labels)
    if problems:
        raise DataError(problems)
    return pa.table({name: columns[name] for name in encoded_columns(layout, with_labels)})


def encoded_columns(layout: Layout, with_labels: bool) -> tuple[str, ...]:
    """Columns of an encoded shard, in order."""
    names = [ROW_ID, GROUP, TIME]
    names += [SPLIT] if with_labels else []
    names += [bag.name for bag in layout.bags]
    names += [field for sequence in layout.sequences for field in sequence.fields]
    names += layout.dense
    if with_labels:
        names += outcome_columns(layout)
    elif layout.survival is not None:
        names.append(survival_column(layout.survival.name, "entry"))
    return tuple(names)


def _encode_outcomes(
    assembled: pa.Table, layout: Layout, as_of_us: int | None, with_labels: bool
) -> dict[str, pa.Array]:
    """Split, labels and masks; without labels the age that survival is read out at, if any."""
    if not with_labels:
        return {} if layout.survival is None else encode_entry(assembled, layout.survival)
    columns = {SPLIT: _whole(assembled, SPLIT, pa.int8())}
    for task, (label, mask) in encode_labels(assembled, layout.tasks, as_of_us).items():
        columns |= {label_column(task): pa.array(label), mask_column(task): pa.array(mask)}
    if layout.survival is not None:
        columns |= encode_survival(assembled, layout.survival)
    return columns


def _row_id(assembled: pa.Table, keys: Keys) -> pa.Array:
    ids = _key(assembled, ROW_ID if keys.row_id == ASSIGN else keys.row_id)
    return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids


def _group(assembled: pa.Table, keys: Keys, row_id: pa.Array) -> pa.Array:
    """Hash of the cluster key; without one every row is its own cluster."""
    ids = row_id if keys.group is None else _key(assembled, keys.group)
    return pa.array(h64(ids, _GROUP_SEED).view(np.int64))


def _key(assembled: pa.Table, column: str) -> pa.Array:
    ids = canonical_ids(column_of(assembled, column), column)
    if ids.null_count:
        first = ids.is_null().to_numpy(zero_copy_only=False).argmax()
        raise refuse(
            column,
            f"{ids.null_count:,} rows have no key (first at row {{row}})",
            "A row needs its row id and group; remove such rows at the source.",
            "D007",
            first,
        )
    return ids


def _whole(assembled: pa.Table, column: str, kind: pa.DataType) -> pa.Array:
    array = column_of(assembled, column)
    if array.null_count:
        message = f"{array.null_count:,} rows have no value"
        raise refuse(column, message, "Remove such rows at the source.", "D007")
    return array.cast(kind)


def _encode_ids(assembled: pa.Table, use: IdUse, spec: FeatureSpec, fit: FitState) -> pa.Array:
    read = read_ids(assembled, use, spec)
    _check_family(read, use, fit)
    ids = pa.array(table_ids(read.values, spec.tables[use.table], fit.vocabs.get(use.table)))
    if read.offsets is None:
        return ids
    if read.offsets[-1] > _MAX_OFFSET:
        message = f"holds {read.offsets[-1]:,} ids in one shard, more than {_MAX_OFFSET:,}"
        raise refuse(use.column, message, "Lower `ingest.shard_rows`.", "D034")
    return pa.ListArray.from_arrays(pa.array(read.offsets, pa.int32()), ids)


def _check_family(read: IdInput, use: IdUse, fit: FitState) -> None:
    expected = fit.input_types.get(use.column)
    if read.family is not None and expected is not None and read.family != expected:
        raise refuse(
            use.column,
            f"holds {read.family} ids, but {expected} ids when the model was fitted",
            "7 and '7' are different ids: deliver the type of the training data, or fit again.",
            "D033",
        )


def _encode_dense(assembled: pa.Table, feature: Feature, fit: FitState) -> dict[str, pa.Array]:
    """Columns of a number or a vector; none of ids."""
    if isinstance(feature, VectorFeature):
        vectors, _ = read_vectors(assembled, feature)
        return dict(zip(vector_columns(feature), map(pa.array, vectors.T), strict=True))
    if not isinstance(feature, NumberFeature):
        return {}
    raw = read_number(assembled, feature)
    values = transformed(feature, raw, fit.moments)
    main = bucket_ids(feature, values) if feature.table is not None else filled(feature, values)
    columns = {feature.name: pa.array(main)}
    if feature.missing.indicator:
        columns[missing_column(feature.name)] = pa.array(missing_flags(raw))
    return columns
