"""Times of rows and events as int64 microseconds UTC."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import refuse
from recsys_mtl.spec.feature_spec import TimeUnit

_US_PER = {"s": 1_000_000, "ms": 1_000, "us": 1}
_FIRST_US = -(2**63)


def time_us(column: pa.Array, name: str, unit: TimeUnit) -> pa.Array:
    """int64 microseconds UTC of a timestamp or integer column; nulls stay null.

    Nanoseconds are cut off towards 1970, which keeps the order: what is earlier afterwards was
    earlier before.

    Args:
        column: timestamps of any unit (naive ones are UTC), or integers since 1970.
        name: the column's name, for messages.
        unit: of an integer column.

    Raises:
        DataError: if the type is neither, or a time does not fit into 64 bits.
    """
    kind = column.type
    try:
        if pa.types.is_timestamp(kind):
            in_us = column.cast(pa.timestamp("us", kind.tz), safe=kind.unit != "ns")
            return in_us.cast(pa.int64())
        if pa.types.is_integer(kind):
            return pc.multiply_checked(column.cast(pa.int64()), _US_PER[unit])
    except pa.ArrowInvalid:
        largest = pc.max(column if pa.types.is_integer(kind) else column.cast(pa.int64()))
        read_as = unit if pa.types.is_integer(kind) else kind.unit
        raise refuse(
            name,
            f"holds times that do not fit into 64 bits of microseconds (up to {largest} {read_as})",
            "Correct `time_unit` in the feature spec, or the column at the source.",
            "D043",
        ) from None
    raise refuse(
        name,
        f"holds {kind}; a time is a timestamp, or an integer of seconds, milli- or "
        "microseconds since 1970",
        "Convert it at the source, and declare `time_unit` for integers.",
        "D001",
    )


def known_before(time_us: np.ndarray, cutoff_us: int) -> np.ndarray:
    """Times before which something is known to a row: `time - cutoff`, without wrapping around.

    Args:
        time_us: int64[B].
        cutoff_us: not negative.
    """
    limit: np.ndarray = np.maximum(time_us, _FIRST_US + cutoff_us) - cutoff_us
    return limit
