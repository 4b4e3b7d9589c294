"""What a delivery log tells of creatives before landmark days, and nothing later."""

import numpy as np
import pyarrow as pa

from recsys_mtl.ingest.delivery import COUNTS, UNKNOWN_DAY, Delivery

_HISTORIES = {"daily_impressions": "impressions", "daily_clicks": "clicks"}


def features_before(
    delivery: Delivery, creative: np.ndarray, start: np.ndarray, day: np.ndarray, max_history: int
) -> dict[str, pa.Array]:
    """Columns of B rows, from the creative-days in [start, day) only.

    Static columns are those of the creative's first row, and the planned end is that of the newest
    row before `day`, or of the first row when there is none.

    Args:
        delivery: the log.
        creative: int64[B], positions.
        start: int64[B], day of age 1, since 1970; may be older than the log.
        day: int64[B], of the landmark.
        max_history: newest days in the histories.

    Returns:
        Static columns; planned_end int32, an age; sums of counts int64 and spend double;
        daily_impressions and daily_clicks list<int8>, oldest first, one entry for each day
        of the log: 0 for none, else 1 + floor(log2 n).
    """
    static = delivery.static.take(pa.array(creative))
    columns = {name: static[name].combine_chunks() for name in static.column_names}
    begin, end = delivery.search(creative, start), delivery.search(creative, day)
    plan = delivery.planned_end[np.maximum(end - 1, delivery.first[creative])]
    age = np.where(plan == UNKNOWN_DAY, 0, plan - start + 1)
    columns["planned_end"] = pa.array(age.astype(np.int32), mask=plan == UNKNOWN_DAY)
    for name in (*COUNTS, "spend"):
        columns[name] = pa.array(_sums(delivery.amounts[name], begin, end))
    oldest = np.maximum(np.maximum(start, day - max_history), delivery.first_day)
    oldest = np.minimum(oldest, day)
    begin = delivery.search(creative, oldest)
    for name, count in _HISTORIES.items():
        buckets = log2_buckets(delivery.amounts[count])
        columns[name] = _histories(buckets, delivery.day, (begin, end), (oldest, day))
    return columns


def log2_buckets(counts: np.ndarray) -> np.ndarray:
    """0 for 0, else 1 + floor(log2 n), int8[n].

    Args:
        counts: int64[n], from 0 to 2^53.
    """
    # frexp writes n as m 2^e with m in [.5, 1).
    buckets: np.ndarray = np.frexp(counts.astype(np.float64))[1].astype(np.int8)
    return buckets


def _sums(values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Sum of values[begin:end] for each row, [B].

    Each is summed by itself: differences of running totals would let what is left out of a sum
    change its last digits.
    """
    sums = np.zeros(len(begin), values.dtype)
    some = np.flatnonzero(end > begin)
    bounds = np.stack([begin[some], end[some]], axis=1).ravel()
    sums[some] = np.add.reduceat(np.append(values, values.dtype.type(0)), bounds)[::2]
    return sums


def _histories(
    buckets: np.ndarray,
    day: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    days: tuple[np.ndarray, np.ndarray],
) -> pa.Array:
    """One entry for each day in [first, after), of the creative-days [begin, end) or 0."""
    (begin, end), (first, after) = rows, days
    offsets = np.append(0, np.cumsum(after - first))
    size = end - begin
    own = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size - begin, size)
    entries = np.zeros(offsets[-1], np.int8)
    entries[day[own] + np.repeat(offsets[:-1] - first, size)] = buckets[own]
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(entries))
