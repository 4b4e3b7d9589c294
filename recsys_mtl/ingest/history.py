"""Point-in-time behaviour histories: for every row, the newest events strictly before it.

A log is filtered and sorted once by (key, time); the sorted index is an Arrow file that all
workers map into memory. Looking up N rows is a binary search, vectorised over the rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import writing
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import Family, canonical_ids, column_of, family_of, refuse
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.times import time_us
from recsys_mtl.spec.feature_spec import EventLog
from recsys_mtl.spec.feature_spec import Sequence as SequenceSpec

_KEY_SEED = 0
_KEY, _ORDER = "key", "order"
_FAMILY = b"recsys.key_family"


def event_columns(log: EventLog, sequences: Sequence[SequenceSpec]) -> list[str]:
    """Columns of a log that its sequences read, each once."""
    names = [log.key, str(log.time or log.position)]
    for sequence in sequences:
        names += [f.column for f in sequence.fields]
        if sequence.events is not None and sequence.events.where is not None:
            names.append(sequence.events.where.column)
    return list(dict.fromkeys(names))


def events_of(table: pa.Table, log: EventLog, sequence: SequenceSpec) -> pa.Table:
    """The events of one sequence in some rows of its log, in their order.

    Events without a key or time are left out: they belong to nobody, or to no moment.

    Returns:
        Columns key uint64 (hash), order int64, and the sequence's fields in canonical form.

    Raises:
        DataError: if a column is absent or its type does not fit.
    """
    table = _matching(table, sequence)
    keys = canonical_ids(column_of(table, log.key), log.key)
    order = _order(table, log)
    fields = {f.name: canonical_ids(column_of(table, f.column), f.column) for f in sequence.fields}
    events = pa.table({_KEY: pa.array(h64(keys, _KEY_SEED)), _ORDER: order, **fields})
    known = events.filter(pc.and_(keys.is_valid(), order.is_valid()))
    family = family_of(keys)
    return known.replace_schema_metadata({_FAMILY: family.encode()} if family else None)


def write_index(path: Path, parts: Sequence[pa.Table]) -> None:
    """Write the index of one sequence: all its events by (key, order), ties in log order.

    Args:
        path: an Arrow file.
        parts: what `events_of` made of each file of the log.

    Raises:
        DataError: if the files disagree about the type of the key or of a field.
    """
    families = {part.schema.metadata[_FAMILY] for part in parts if part.schema.metadata}
    if len(families) > 1:
        raise DataError(_mixed("the key"))
    for name in parts[0].column_names:
        kinds = {family_of(column_of(part, name)) for part in parts if name != _KEY} - {None}
        if len(kinds) > 1:
            raise DataError(_mixed(f"field {name!r}"))
    events = pa.concat_tables(
        (part.replace_schema_metadata(None) for part in parts), promote_options="permissive"
    ).combine_chunks()
    rank = np.lexsort((column_of(events, _ORDER).to_numpy(), column_of(events, _KEY).to_numpy()))
    metadata = {_FAMILY: families.pop()} if families else None
    events = events.take(pa.array(rank)).combine_chunks().replace_schema_metadata(metadata)
    with (
        writing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, events.schema) as writer,
    ):
        writer.write_table(events)


@dataclass(frozen=True, slots=True)
class EventIndex:
    """A mapped index."""

    table: pa.Table
    key: np.ndarray
    """uint64[E], ascending."""
    order: np.ndarray
    """int64[E], ascending within a key."""
    family: Family | None
    """What the log's keys are; None when it has none."""

    @classmethod
    def open(cls, path: Path) -> "EventIndex":
        """Map the file; nothing is read yet."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        family = (table.schema.metadata or {}).get(_FAMILY)
        return cls(
            table,
            column_of(table, _KEY).to_numpy(),
            column_of(table, _ORDER).to_numpy(),
            None if family is None else _family(family),
        )

    def hashes(self, keys: pa.Array, name: str) -> np.ndarray:
        """uint64[B] of the rows' keys, for `lookup`; a null key has no events.

        Raises:
            DataError: if the log has keys of another type, which none of these could match.
        """
        ids = canonical_ids(keys, name)
        own = family_of(ids)
        if own is not None and self.family not in (None, own):
            message = f"holds {own} keys, but its event log {self.family} ones; 7 and '7' differ"
            raise refuse(name, message, "Deliver both with one type.", "D033")
        return h64(ids, _KEY_SEED)

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
        values = column_of(self.table, field).take(pa.array(indices))
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)


def _matching(table: pa.Table, sequence: SequenceSpec) -> pa.Table:
    where = sequence.events.where if sequence.events is not None else None
    if where is None:
        return table
    column = column_of(table, where.column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    with _fits(where.column, f"holds {column.type}, which never equals {where.equals!r}"):
        hit = pc.equal(column, pa.scalar(where.equals).cast(column.type))
    return table.filter(pc.fill_null(hit, False))


def _order(table: pa.Table, log: EventLog) -> pa.Array:
    if log.time is not None:
        return time_us(column_of(table, log.time), log.time, log.time_unit)
    column = column_of(table, str(log.position))
    with _fits(str(log.position), f"holds {column.type}; a position is an integer"):
        return column.cast(pa.int64())


def _family(name: bytes) -> Family:
    return "int" if name == b"int" else "string"


def _mixed(what: str) -> Problem:
    return Problem(
        "event log",
        f"{what} holds integers in some files and strings in others; 7 and '7' are different ids",
        "Rewrite the files with one type.",
        "D033",
    )


@contextmanager
def _fits(column: str, message: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        fix = "Correct the spec, or convert the column at the source."
        raise refuse(column, message, fix, "D001") from None
