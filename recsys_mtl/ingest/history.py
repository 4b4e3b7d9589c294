"""Point-in-time behaviour histories: for every row, the newest events strictly before it.

A log is filtered and sorted once by (key, time); the sorted index is an Arrow file that all
workers map into memory. Looking up N rows is a binary search, vectorised over the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import writing
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.times import time_us
from recsys_mtl.spec.feature_spec import EventLog
from recsys_mtl.spec.feature_spec import Sequence as SequenceSpec

_KEY_SEED = 0
_KEY, _ORDER = "key", "order"


def key_hash(column: pa.Array, name: str) -> np.ndarray:
    """uint64[N] hash of the key that rows and events share."""
    return h64(canonical_ids(column, name), _KEY_SEED)


def build_index(
    path: Path, logs: Sequence[pa.Table], log: EventLog, sequence: SequenceSpec
) -> None:
    """Write the index of one sequence, sorted by (key, time or position), ties in log order.

    Columns: key uint64, order int64, and the sequence's fields.

    Raises:
        DataError: if a column is absent or its type does not fit.
    """
    parts = [_events(table, log, sequence) for table in logs]
    events = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    order = np.lexsort((events[_ORDER].to_numpy(), events[_KEY].to_numpy()))
    events = events.take(pa.array(order)).combine_chunks()
    with (
        writing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, events.schema) as writer,
    ):
        writer.write_table(events)


def _events(table: pa.Table, log: EventLog, sequence: SequenceSpec) -> pa.Table:
    assert sequence.events is not None
    where = sequence.events.where
    if where is not None:
        column = column_of(table, where.column)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        hit = pc.equal(column, pa.scalar(where.equals).cast(column.type))
        table = table.filter(pc.fill_null(hit, False))
    if log.time is not None:
        order = time_us(column_of(table, log.time), log.time, log.time_unit)
    else:
        order = column_of(table, str(log.position)).cast(pa.int64())
    keys = column_of(table, log.key)
    known = pc.and_(keys.is_valid(), order.is_valid())
    fields = {f.name: canonical_ids(column_of(table, f.column), f.column) for f in sequence.fields}
    events = pa.table({_KEY: pa.array(key_hash(keys, log.key)), _ORDER: order, **fields})
    return events.filter(known)


@dataclass(frozen=True, slots=True)
class EventIndex:
    """A mapped index."""

    table: pa.Table
    key: np.ndarray
    """uint64[E], ascending."""
    order: np.ndarray
    """int64[E], ascending within a key."""

    @classmethod
    def open(cls, path: Path) -> "EventIndex":
        """Map the file; nothing is read yet."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table = table.combine_chunks() if table.column(0).num_chunks > 1 else table
        return cls(table, _numpy(table, _KEY), _numpy(table, _ORDER))

    def lookup(
        self, keys: np.ndarray, before_us: np.ndarray | None, max_len: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The newest `max_len` events of each row's key with `order < before_us`.

        Args:
            keys: uint64[B], hashes of the rows' keys.
            before_us: int64[B]; None takes all events of the key (logs ordered by position,
                all of it known before the rows).
            max_len: events per row at most.

        Returns:
            offsets int64[B + 1] and indices int64[offsets[-1]] into the index, oldest first.
        """
        low = np.searchsorted(self.key, keys, "left")
        end = np.searchsorted(self.key, keys, "right")
        if before_us is not None:
            end = self._first_not_before(low, end, before_us)
        start = np.maximum(low, end - max_len)
        offsets = np.concatenate([[0], np.cumsum(end - start)])
        indices = np.repeat(start - offsets[:-1], end - start) + np.arange(offsets[-1])
        return offsets, indices

    def _first_not_before(
        self, low: np.ndarray, high: np.ndarray, before_us: np.ndarray
    ) -> np.ndarray:
        """Binary search for `before_us` inside [low, high) of every row at once."""
        low, high = low.copy(), high.copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            earlier = np.zeros(len(low), bool)
            earlier[open_] = self.order[middle[open_]] < before_us[open_]
            low = np.where(open_ & earlier, middle + 1, low)
            high = np.where(open_ & ~earlier, middle, high)
        return low

    def lists(self, field: str, offsets: np.ndarray, indices: np.ndarray) -> pa.LargeListArray:
        """The field's values of looked-up events as one list per row."""
        values = self.table[field].chunk(0) if self.table.num_rows else pa.array([], pa.int64())
        return pa.LargeListArray.from_arrays(
            pa.array(offsets, pa.int64()), values.take(pa.array(indices))
        )


def _numpy(table: pa.Table, column: str) -> np.ndarray:
    values: np.ndarray = table[column].to_numpy()
    return values
