"""Daily delivery logs of creatives: read, judged, and put in order of creative and day."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of

STATUSES = ("active", "paused", "ended", "budget", "policy")
"""What a creative's campaign lets it do on a day; it may deliver only under the first."""
COUNTS = ("impressions", "clicks", "conversions")
STATIC = ("creative", "campaign", "advertiser", "genre")
UNKNOWN_DAY = -(2**31)

_EPOCH = date(1970, 1, 1)
_TypeTest = Callable[[pa.DataType], bool]
_WHOLE = ("Fill it, or remove such rows at the source.", "D007")
_COUNT = ("Mend the log.", "D061")


@dataclass(frozen=True, slots=True)
class Delivery:
    """n creative-days of A creatives by (creative, day); days are counted from 1970-01-01."""

    first_day: int
    """Of the log, and of its last: 0 and -1 in an empty one."""
    last_day: int
    static: pa.Table
    """`STATIC` of each creative on its first day in the log, [A]."""
    first: np.ndarray
    """int64[A + 1]: creative i has the creative-days from first[i] to before first[i + 1]."""
    creative: np.ndarray
    """int64[n], positions in `static`."""
    day: np.ndarray
    """int64[n]"""
    key: np.ndarray
    """int64[n], rising: creative and day in one number, for `search`."""
    status: np.ndarray
    """int64[n], index of `STATUSES`."""
    amounts: dict[str, np.ndarray]
    """`COUNTS` int64[n] and spend float64[n]."""
    stopped: np.ndarray | None
    """bool[n], the operator's flag; None when the log has no such column."""
    launched: np.ndarray
    """int64[A], or `UNKNOWN_DAY`."""
    planned_end: np.ndarray
    """int64[n], or `UNKNOWN_DAY`."""

    def search(self, creative: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Index of the first creative-day of a creative on or after a day, int64[m].

        It is `first[creative + 1]` where there is none.

        Args:
            creative: int64[m].
            day: int64[m], any.
        """
        span = self.last_day - self.first_day + 2
        wanted = creative * span + np.clip(day - self.first_day, 0, span - 1)
        found: np.ndarray = np.searchsorted(self.key, wanted)
        return found


def check_log(log: pa.Table) -> None:
    """Refuse a delivery log that cannot be; `read_delivery` says how it must look.

    Raises:
        DataError: with all problems.
    """
    read_delivery(log, date.max)


def read_delivery(log: pa.Table, as_of: date) -> Delivery:
    """The creative-days until a day; those after it are not even looked at.

    Args:
        log: creative, campaign, advertiser, genre (integers or strings), day date32, impressions,
            clicks, conversions (integers), spend (a number), status (a string of `STATUSES`);
            optional: stopped bool, launched date32 (one per creative), planned_end date32.
        as_of: last day, inclusive.

    Raises:
        DataError: D001 for columns and types, D007 for a null creative or day, D071 for repeated
            creative-days, D061 for amounts, D006 for statuses and launches.
    """
    reader = _Reader(log)
    reader.keep_until((as_of - _EPOCH).days)
    day = reader.days("day")
    first_day, last_day = int(day.min(initial=2**31)), int(day.max(initial=-(2**31)))
    if not len(day):
        first_day, last_day = 0, -1
    code = reader.codes("creative")
    key = code * (last_day - first_day + 2) + day - first_day
    order = np.argsort(key, kind="stable")
    reader.check_once(key, order)
    amounts = reader.amounts()
    status = reader.status()
    stopped = reader.flags("stopped")
    launched, planned_end = reader.optional_days("launched"), reader.optional_days("planned_end")
    first = np.append(np.flatnonzero(np.diff(code[order], prepend=-1)), len(order))
    launch = launched[order[first[:-1]]]
    reader.check_launches(launched, launch[code], day, amounts["impressions"] > 0)
    static = [reader.column(name) for name in STATIC]
    if reader.problems:
        raise DataError(reader.problems)
    return Delivery(
        first_day=first_day,
        last_day=last_day,
        static=pa.table(dict(zip(STATIC, static, strict=True))).take(pa.array(order[first[:-1]])),
        first=first,
        creative=code[order],
        day=day[order],
        key=key[order],
        status=status[order],
        amounts={name: values[order] for name, values in amounts.items()},
        stopped=None if stopped is None else stopped[order],
        launched=launch,
        planned_end=planned_end[order],
    )


class _Reader:
    """Columns of a log as arrays, in its order; faults are collected with the log's row numbers.

    A faulty column reads as something that the others can be judged beside.
    """

    def __init__(self, log: pa.Table) -> None:
        self.log = log
        self.rows = np.arange(log.num_rows)
        self.problems: list[Problem] = []

    def keep_until(self, last_day: int) -> None:
        """Drop the rows of later days; without days nothing else can be judged."""
        day = self.days("day")
        self._refuse_where(day == UNKNOWN_DAY, "day", "rows have no day", _WHOLE)
        if self.problems:
            raise DataError(self.problems)
        kept = np.flatnonzero(day <= last_day)
        if len(kept) < len(day):
            self.rows, self.log = kept, self.log.take(pa.array(kept))

    def column(self, name: str) -> pa.Array:
        with collecting(self.problems):
            return column_of(self.log, name)
        return pa.nulls(self.log.num_rows)

    def days(self, name: str) -> np.ndarray:
        """Days since 1970, int64; null is `UNKNOWN_DAY`."""
        column = self._typed(name, pa.types.is_date32, "date32")
        days: np.ndarray = column.cast(pa.int32()).fill_null(UNKNOWN_DAY).to_numpy()
        return days.astype(np.int64)

    def optional_days(self, name: str) -> np.ndarray:
        if name in self.log.column_names:
            return self.days(name)
        return np.full(self.log.num_rows, UNKNOWN_DAY, np.int64)

    def codes(self, name: str) -> np.ndarray:
        """Positions of ids by first rows, int64; all different when the column is faulty."""
        ids = pa.nulls(self.log.num_rows)
        with collecting(self.problems):
            ids = canonical_ids(column_of(self.log, name), name)
        if pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_decode()
        if ids.null_count:
            self._refuse_where(_null(ids), name, "rows have no id", _WHOLE)
            return np.arange(len(ids))
        codes: np.ndarray = ids.dictionary_encode().indices.to_numpy()
        return codes.astype(np.int64)

    def amounts(self) -> dict[str, np.ndarray]:
        read = {name: self._amount(name, pa.types.is_integer, pa.int64()) for name in COUNTS}
        over = (read["clicks"] > read["impressions"]) & (read["impressions"] >= 0)
        self._refuse_where(over, "clicks", "rows have more clicks than impressions", _COUNT)
        return read | {"spend": self._amount("spend", _is_number, pa.float64())}

    def status(self) -> np.ndarray:
        column = self._typed("status", _is_text, "string").cast(pa.string())
        index = pc.index_in(column, value_set=pa.array(STATUSES)).fill_null(-1)
        codes: np.ndarray = index.to_numpy().astype(np.int64)
        message = f"rows have no status of {', '.join(STATUSES)}"
        self._refuse_where(codes < 0, "status", message, ("Map it at the source.", "D006"))
        return codes

    def flags(self, name: str) -> np.ndarray | None:
        """bool; null is false. None without such a column."""
        if name not in self.log.column_names:
            return None
        column = self._typed(name, pa.types.is_boolean, "bool").cast(pa.bool_())
        flags: np.ndarray = column.fill_null(False).to_numpy(zero_copy_only=False)
        return flags

    def check_once(self, key: np.ndarray, order: np.ndarray) -> None:
        repeats = np.zeros(len(key), bool)
        repeats[order[1:]] = np.diff(key[order]) == 0
        message = "rows repeat a creative's day; a creative has one row per day"
        self._refuse_where(repeats, "day", message, ("Sum them, or keep one.", "D071"))

    def check_launches(
        self, launched: np.ndarray, launch: np.ndarray, day: np.ndarray, delivers: np.ndarray
    ) -> None:
        """One launch per creative, and no impressions before it."""
        way_out = ("Mend the launch day at the source, or leave it null.", "D006")
        other = launched != launch
        self._refuse_where(other, "launched", "rows disagree with their creative's first", way_out)
        early = delivers & (day < launched)
        self._refuse_where(early, "launched", "rows deliver before the launch", way_out)

    def _amount(self, name: str, is_fit: _TypeTest, kind: pa.DataType) -> np.ndarray:
        column = self._typed(name, is_fit, "an amount").cast(kind, safe=False)
        values: np.ndarray = column.fill_null(-1).to_numpy()
        message = "rows hold no finite amount from 0 on"
        self._refuse_where(~np.isfinite(values) | (values < 0), name, message, _COUNT)
        return values

    def _typed(self, name: str, is_fit: _TypeTest, wanted: str) -> pa.Array:
        """The column; nulls of no type when it is absent or has another type."""
        column = self.column(name)
        if is_fit(column.type) or pa.types.is_null(column.type):
            return column
        message = f"has type {column.type}; {wanted} is expected"
        fix = "Convert it at the source."
        self.problems.append(Problem(f"column {name!r}", message, fix, "D001"))
        return pa.nulls(len(column))

    def _refuse_where(
        self, bad: np.ndarray, column: str, message: str, way_out: tuple[str, str]
    ) -> None:
        """A problem if a flag is set, with how many and the first; of a column its first only."""
        where = f"column {column!r}"
        if bad.any() and where not in {problem.where for problem in self.problems}:
            fix, code = way_out
            text = f"{int(bad.sum()):,} {message} (first at row {{row}})"
            self.problems.append(Problem(where, text, fix, code, int(self.rows[bad.argmax()])))


def _null(array: pa.Array) -> np.ndarray:
    flags: np.ndarray = array.is_null().to_numpy(zero_copy_only=False)
    return flags


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(text) or pa.types.is_large_string(text))
