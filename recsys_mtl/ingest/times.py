"""Times of rows and events as int64 microseconds UTC."""

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import refuse
from recsys_mtl.spec.feature_spec import TimeUnit

_US_PER = {"s": 1_000_000, "ms": 1_000, "us": 1}


def time_us(column: pa.Array, name: str, unit: TimeUnit) -> pa.Array:
    """int64 microseconds UTC of a timestamp or integer column; nulls stay null.

    Args:
        column: timestamps of any unit (naive ones are UTC), or integers since 1970.
        name: the column's name, for messages.
        unit: of an integer column.

    Raises:
        DataError: if the type is neither.
    """
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_integer(column.type):
        return pc.multiply_checked(column.cast(pa.int64()), _US_PER[unit])
    raise refuse(
        name,
        f"holds {column.type}; a time is a timestamp, or an integer of seconds, milli- or "
        "microseconds since 1970",
        "Convert it at the source, and declare `time_unit` for integers.",
        "D001",
    )
