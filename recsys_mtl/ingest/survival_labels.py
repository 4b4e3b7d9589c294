"""Survival labels as columns of numbers: days at risk, what ended them, weight."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import column_of, refuse
from recsys_mtl.ingest.numbers import float_values
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.layout import survival_column

_FIX = "Correct the column at the source."


def encode_entry(assembled: pa.Table, label: SurvivalLabel) -> dict[str, pa.Array]:
    """The first day at risk alone: the age of which a row to be scored is read out.

    Raises:
        DataError: as `encode_survival`.
    """
    entry = _days(assembled, label.entry).astype(np.int32)
    return {survival_column(label.name, "entry"): pa.array(entry)}


def encode_survival(assembled: pa.Table, label: SurvivalLabel) -> dict[str, pa.Array]:
    """Columns of a survival label, as `survival_column` describes them.

    Args:
        assembled: B rows with the label's columns.
        label: of the rows' source.

    Raises:
        DataError: if a day is absent, not whole or below 1, `exit` is before `entry`, the event is
            not 0 or 1, a cause is none of the declared ones, or a weight is negative.
    """
    entry, exit_ = _days(assembled, label.entry), _days(assembled, label.exit)
    early = exit_ < entry
    if early.any():
        row = int(early.argmax())
        text = f"{int(early.sum()):,} rows end before they are at risk (first at row {{row}}: "
        text += f"from day {entry[row]:.0f} to {exit_[row]:.0f})"
        raise refuse(label.exit, text, _FIX, "D060", row)
    columns = {
        "entry": pa.array(entry.astype(np.int32)),
        "exit": pa.array(exit_.astype(np.int32)),
        "event": pa.array(_event(assembled, label)),
        "weight": pa.array(_weight(assembled, label).astype(np.float32)),
    }
    return {survival_column(label.name, part): values for part, values in columns.items()}


def _days(assembled: pa.Table, name: str) -> np.ndarray:
    """float64[B], whole and at least 1."""
    values = float_values(column_of(assembled, name), name)
    bad = ~((values >= 1) & (values == np.floor(values)) & (values < 2**31))
    if bad.any():
        row = int(bad.argmax())
        text = f"{int(bad.sum()):,} rows hold no day of age (first {values[row]:g} at row {{row}});"
        raise refuse(name, f"{text} days are whole, from 1 on", _FIX, "D060", row)
    return values


def _event(assembled: pa.Table, label: SurvivalLabel) -> np.ndarray:
    """int8[B]: 0 censored, else 1 + the cause's number."""
    values = float_values(column_of(assembled, label.event), label.event)
    bad = ~((values == 0) | (values == 1))
    if bad.any():
        row = int(bad.argmax())
        text = f"{int(bad.sum()):,} rows hold no event (first {values[row]:g} at row {{row}});"
        raise refuse(label.event, f"{text} an event is 0 or 1", _FIX, "D060", row)
    if label.cause is None:
        return values.astype(np.int8)
    known = pa.array(label.causes, pa.string())
    cause = pc.index_in(column_of(assembled, label.cause).cast(pa.string()), value_set=known)
    number = cause.fill_null(-1).to_numpy()
    unknown = (values == 1) & (number < 0)
    if unknown.any():
        row = int(unknown.argmax())
        found = column_of(assembled, label.cause)[row].as_py()
        text = f"{int(unknown.sum()):,} rows end for another cause than {', '.join(label.causes)}"
        text += f" (first {found!r} at row {{row}})"
        fix = "Add it to `causes`, or set the event to 0 where it only censors."
        raise refuse(label.cause, text, fix, "D060", row)
    return np.where(values == 1, number + 1, 0).astype(np.int8)


def _weight(assembled: pa.Table, label: SurvivalLabel) -> np.ndarray:
    if label.weight is None:
        return np.ones(assembled.num_rows)
    values = float_values(column_of(assembled, label.weight), label.weight)
    bad = ~((values >= 0) & np.isfinite(values))
    if bad.any():
        row = int(bad.argmax())
        text = f"{int(bad.sum()):,} rows hold no weight (first {values[row]:g} at row {{row}});"
        raise refuse(label.weight, f"{text} a weight is finite and not negative", _FIX, "D060", row)
    return values
