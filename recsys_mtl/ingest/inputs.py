"""Which ids the spec reads from assembled rows; fit and encode both read them here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from recsys_mtl.ingest.columns import (
    Family,
    canonical_ids,
    column_of,
    drop_nulls,
    family_of,
    ragged_ids,
    refuse,
    with_ngrams,
)
from recsys_mtl.spec.feature_spec import FeatureSpec, RangeIds


@dataclass(frozen=True, slots=True)
class IdUse:
    """One reader of an embedding table."""

    name: str
    """Encoded column."""
    column: str
    """Assembled column."""
    table: str
    keep: Literal["one", "first", "newest"]
    """One id per row, or which elements of a longer list."""
    max_len: int = 1
    separator: str | None = None
    ngrams: int = 1


@dataclass(frozen=True, slots=True)
class IdInput:
    """The ids that a use reads from some rows."""

    values: pa.Array
    """Canonical ids, [B] or [N]."""
    offsets: np.ndarray | None
    """int64[B + 1] of lists; None for one id per row."""

    @property
    def family(self) -> Family | None:
        """None when nothing shows it."""
        return family_of(self.values)

    @property
    def num_missing(self) -> int:
        """Rows without an id."""
        if self.offsets is None:
            return int(self.values.null_count)
        return int((np.diff(self.offsets) == 0).sum())


def id_uses(spec: FeatureSpec, source: str) -> tuple[IdUse, ...]:
    """Features of kind id and id_list, then sequence fields, in file order."""
    uses = []
    for f in spec.features_of(source):
        if f.kind == "id":
            uses.append(IdUse(f.name, f.column or f.name, f.table, "one"))
        elif f.kind == "id_list":
            column = f.column or f.name
            more = (f.max_len, f.separator, f.ngrams)
            uses.append(IdUse(f.name, column, f.table, "first", *more))
    for s in spec.sequences_of(source):
        names = [(f"{s.name}__{f.name}", f.table) for f in s.fields]
        uses += [IdUse(name, name, table, "newest", s.max_len) for name, table in names]
    return tuple(uses)


def read_ids(assembled: pa.Table, use: IdUse, spec: FeatureSpec) -> IdInput:
    """Read a use's column in canonical form, lists cut to what the model sees.

    An `id_list` loses its null elements; a sequence keeps them, because its fields are aligned.

    Raises:
        DataError: if the column is absent or its type does not fit.
    """
    column = column_of(assembled, use.column)
    offsets = None
    if use.keep == "one":
        values = canonical_ids(column, use.column)
    else:
        lists = ragged_ids(column, use.column, use.separator)
        if use.keep == "first":
            lists = with_ngrams(drop_nulls(lists), use.ngrams, use.column).first(use.max_len)
        else:
            lists = lists.newest(use.max_len)
        values, offsets = lists.values, lists.offsets
    if isinstance(spec.tables[use.table].ids, RangeIds) and family_of(values) == "string":
        raise refuse(
            use.column,
            f"holds strings, but table {use.table!r} is of kind range",
            "Deliver integers, or make the table a vocab.",
            "D001",
        )
    return IdInput(values, offsets)
