"""Daily delivery logs of creatives: read, judged, and put in order of creative and day."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, collecting, column_of, refuse

STATUSES = ("active", "paused", "ended", "budget", "policy")
"""What a creative's campaign lets it do on a day; it may deliver only under the first."""
COUNTS = ("impressions", "clicks", "conversions")
STATIC = ("creative", "campaign", "advertiser", "genre")
REQUIRED = (*STATIC, "day", *COUNTS, "spend", "status")
AD_GROUP = "ad_group"
"""Optional, and static as well: what a campaign keeps creatives live in."""
OPTIONAL = ("stopped", "launched", "planned_end", AD_GROUP)
UNKNOWN_DAY = -(2**31)
_POLICY = STATUSES.index("policy")

_EPOCH = date(1970, 1, 1)
_WHOLE = ("Fill it, or remove such rows at the source.", "D007")
_COUNT = ("Mend the log.", "D061")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(text) or pa.types.is_large_string(text))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a column may come as, and what it is read as."""

    is_fit: Callable[[pa.DataType], bool]
    name: str
    read_as: pa.DataType


_DAY = _Kind(pa.types.is_date32, "date32", pa.date32())
_KINDS = {
    **dict.fromkeys(("day", "launched", "planned_end"), _DAY),
    **dict.fromkeys(COUNTS, _Kind(pa.types.is_integer, "an integer", pa.int64())),
    "spend": _Kind(_is_number, "a number", pa.float64()),
    "status": _Kind(_is_text, "string", pa.string()),
    "stopped": _Kind(pa.types.is_boolean, "bool", pa.bool_()),
}


def typed(column: pa.Array, name: str) -> pa.Array:
    """A column of a log in its one type: ids int64 or string, the others as `read_delivery` says.

    Without any value ids have no type.

    Raises:
        DataError: D001 if it has another type that does not stand for it.
    """
    if name not in _KINDS:
        ids = canonical_ids(column, name)
        return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids
    kind = _KINDS[name]
    if kind.is_fit(column.type) or pa.types.is_null(column.type):
        return column.cast(kind.read_as, safe=False)
    message = f"has type {column.type}; {kind.name} is expected"
    raise refuse(name, message, "Convert it at the source.", "D001")


@dataclass(frozen=True, slots=True)
class Delivery:
    """n creative-days of A creatives by (creative, day); days are counted from 1970-01-01."""

    first_day: int
    """Of the log, and of its last: 0 and -1 in an empty one."""
    last_day: int
    static: pa.Table
    """`STATIC`, and `AD_GROUP` if delivered, of each creative on its first day in the log, [A]."""
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
    """bool[n], the operator's flag; None when the log has no such column.

    Under status `policy` it is that of the policy, which is no operator: false.
    """
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
            optional: stopped bool, launched date32 (one per creative), planned_end date32,
            ad_group (integers or strings).
        as_of: last day, inclusive.

    Raises:
        DataError: D001 for columns and types, D007 for a null creative, day or campaign, D071 for
            repeated creative-days, D061 for amounts, D006 for statuses and launches.
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
    names = (*STATIC, AD_GROUP) if AD_GROUP in log.column_names else STATIC
    static = {name: reader.column(name) for name in names}
    reader.check_known("campaign")
    if reader.problems:
        raise DataError(reader.problems)
    return Delivery(
        first_day=first_day,
        last_day=last_day,
        static=pa.table(static).take(pa.array(order[first[:-1]])),
        first=first,
        creative=code[order],
        day=day[order],
        key=key[order],
        status=status[order],
        amounts={name: values[order] for name, values in amounts.items()},
        stopped=None if stopped is None else (stopped & (status != _POLICY))[order],
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
        """The column as `typed` reads it; nulls when it is absent or has another type."""
        with collecting(self.problems):
            return typed(column_of(self.log, name), name)
        kind = _KINDS[name].read_as if name in _KINDS else pa.null()
        return pa.nulls(self.log.num_rows, kind)

    def days(self, name: str) -> np.ndarray:
        """Days since 1970, int64; null is `UNKNOWN_DAY`."""
        days: np.ndarray = self.column(name).cast(pa.int32()).fill_null(UNKNOWN_DAY).to_numpy()
        return days.astype(np.int64)

    def optional_days(self, name: str) -> np.ndarray:
        if name in self.log.column_names:
            return self.days(name)
        return np.full(self.log.num_rows, UNKNOWN_DAY, np.int64)

    def codes(self, name: str) -> np.ndarray:
        """Positions of ids by first rows, int64; all different when the column is faulty."""
        ids = self.column(name)
        if ids.null_count:
            self._refuse_where(_null(ids), name, "rows have no id", _WHOLE)
            return np.arange(len(ids))
        codes: np.ndarray = ids.dictionary_encode().indices.to_numpy()
        return codes.astype(np.int64)

    def amounts(self) -> dict[str, np.ndarray]:
        read = {name: self._amount(name) for name in COUNTS}
        over = (read["clicks"] > read["impressions"]) & (read["impressions"] >= 0)
        self._refuse_where(over, "clicks", "rows have more clicks than impressions", _COUNT)
        return read | {"spend": self._amount("spend")}

    def status(self) -> np.ndarray:
        index = pc.index_in(self.column("status"), value_set=pa.array(STATUSES)).fill_null(-1)
        codes: np.ndarray = index.to_numpy().astype(np.int64)
        message = f"rows have no status of {', '.join(STATUSES)}"
        self._refuse_where(codes < 0, "status", message, ("Map it at the source.", "D006"))
        return codes

    def flags(self, name: str) -> np.ndarray | None:
        """bool; null is false. None without such a column."""
        if name not in self.log.column_names:
            return None
        column = self.column(name).fill_null(False)
        flags: np.ndarray = column.to_numpy(zero_copy_only=False)
        return flags

    def check_once(self, key: np.ndarray, order: np.ndarray) -> None:
        repeats = np.zeros(len(key), bool)
        repeats[order[1:]] = np.diff(key[order]) == 0
        message = "rows repeat a creative's day; a creative has one row per day"
        self._refuse_where(repeats, "day", message, ("Sum them, or keep one.", "D071"))

    def check_known(self, name: str) -> None:
        message = f"rows have no {name}"
        self._refuse_where(_null(self.column(name)), name, message, _WHOLE)

    def check_launches(
        self, launched: np.ndarray, launch: np.ndarray, day: np.ndarray, delivers: np.ndarray
    ) -> None:
        """One launch per creative, and no impressions before it."""
        way_out = ("Mend the launch day at the source, or leave it null.", "D006")
        other = launched != launch
        self._refuse_where(other, "launched", "rows disagree with their creative's first", way_out)
        early = delivers & (day < launched)
        self._refuse_where(early, "launched", "rows deliver before the launch", way_out)

    def _amount(self, name: str) -> np.ndarray:
        values: np.ndarray = self.column(name).fill_null(-1).to_numpy()
        message = "rows hold no finite amount from 0 on"
        self._refuse_where(~np.isfinite(values) | (values < 0), name, message, _COUNT)
        return values

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
