"""Rows of creatives at landmark days, with their stops, from a daily delivery log.

Age counts days from a creative's first delivery, which is day 1. A row (creative, landmark a) is
alive as day a begins, knows days <= a - 1, and is followed day by day until

    exit = min(stop, last day before an interruption, horizon - 1, last day that can be judged)

Stopped rows leave by the first of these, the others are censored. Which day is a creative's stop:

    flag     the first flagged day
    silence  the last delivered day before the first `silent_days` days in a row on which the
             campaign was active and nothing was delivered
    either   the earlier of both

Silence proves a stop only `silent_days` later, so unless flags alone tell stops, nothing is judged
on the last `silent_days` days of the log. Our reading, where the sources leave it open:

- Days without a row are silent, under the newest status of the creative.
- An interruption is the first day from entry on without an active campaign. It is itself at risk
  only if the creative delivered or was flagged on it; a stop on the same day comes first. A row of
  a later landmark, once the campaign is active again, is followed anew; a stop is for ever.
- A creative with a row on the log's first day may have delivered before: its start is its
  `launched`, or unknown, and then it is left out. Others start with their first delivery. A
  launch before the log counts age, and the creative is at risk from its first delivery in the log.
- What such a creative did before the log is in no sum and no history.
- Static columns are those of the creative's first row; the planned end that of the newest row
  before the landmark, or of the first.

Limit: a creative silent for fewer than `silent_days` days when its campaign ends counts as alive
until then. Where a log goes on with rows of stopped creatives and has no flags, stops shortly
before an end are missed.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import refuse
from recsys_mtl.ingest.delivery import (
    AD_GROUP,
    COUNTS,
    STATIC,
    UNKNOWN_DAY,
    Delivery,
    read_delivery,
)
from recsys_mtl.ingest.landmark_features import features_before
from recsys_mtl.spec.creatives_rules import CAUSES

StopSource = Literal["flag", "silence", "either"]

CENSORED_BY = ("pause", "campaign_end", "budget", "policy", "horizon", "log_end")
"""The first four belong to the statuses of a log other than active, in their order."""
COLUMNS = (
    *("row_id", *STATIC, "day", "time", "landmark", "entry", "exit", "stopped", "cause"),
    *("censored_by", "planned_end", *COUNTS, "spend", "daily_impressions", "daily_clicks"),
)

_HORIZON, _LOG_END = CENSORED_BY.index("horizon"), CENSORED_BY.index("log_end")
_NEVER = 2**40
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class LandmarkRules:
    """What makes a row and its label; all in days."""

    landmarks: tuple[int, ...] = (1, 3, 7, 10, 30)
    """Ages, each once, from 1 on."""
    silent_days: int = 3
    """At least 1."""
    stop_source: StopSource = "either"
    horizon: int = 120
    """Age at which rows are no longer followed: the last edge of the head's grid."""
    age_of_wear_out: int = 10
    """First age at which a stop is wear-out; before it is cut-out."""
    max_history: int = 30
    """Newest days before the landmark in the histories."""


@dataclass(frozen=True, slots=True)
class LandmarkRows:
    """Rows by (time, row_id), and what became of everything else."""

    table: pa.Table
    counts: dict[str, int]
    """Of creatives: `creatives`, and of these `never_delivered`, `unknown_start` (left out),
    `resumed_after_stop` (delivered after what counts as their stop) and `flagged_too_early` (a stop
    before the first delivery, which is no stop).
    Of the other creatives at each landmark: `stopped.<cause>` and `censored.<by>` sum to `rows`,
    `absent.stopped` and `absent.<by>` were over before their entry. Of the rows: `late_entry`, and
    `cut_history` (days before the landmark are older than the log).
    Of the log: `days_without_rows`, on which all creatives seem silent."""


@dataclass(frozen=True, slots=True)
class Lives:
    """m creatives with known start, int64[m] each; days since 1970."""

    creative: np.ndarray
    """Position in the log."""
    start: np.ndarray
    """Day of age 1."""
    seen: np.ndarray
    """First delivery in the log."""
    stop: np.ndarray
    """Last day of life, or 2^40."""
    told: np.ndarray
    """First day at whose end it could be told that there is a stop, or 2^40."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """B candidate rows, int64[B] each; days since 1970."""

    creative: np.ndarray
    landmark: np.ndarray
    start: np.ndarray
    entry: np.ndarray
    exit: np.ndarray
    is_stopped: np.ndarray
    """bool[B]"""
    censored_by: np.ndarray
    """Index of `CENSORED_BY`."""

    @property
    def day(self) -> np.ndarray:
        """Of the landmark."""
        days: np.ndarray = self.start + self.landmark - 1
        return days

    def where(self, keep: np.ndarray) -> "_Rows":
        return _Rows(*(getattr(self, name)[keep] for name in self.__slots__))


def landmark_rows(log: pa.Table, rules: LandmarkRules, as_of: date) -> LandmarkRows:
    """Build the rows of all creatives at all landmarks, from the log until a day.

    Args:
        log: as `delivery.read_delivery` takes it; the order of its rows does not matter.
        rules: of rows and labels.
        as_of: last complete day; everything later is ignored. A log that ends before it is taken to
            end with its last row.

    Returns:
        row_id string `<creative>@<landmark>`; creative, campaign, advertiser, genre as in the log;
        day date32 and time timestamp[us, UTC] of the landmark; landmark, entry, exit, planned_end
        (null: unknown) int32 in days of age; stopped int8; cause, censored_by string or null;
        impressions, clicks, conversions int64 and spend double, summed before the landmark;
        daily_impressions, daily_clicks list<int8>, oldest first: 0 for none, 1 + floor(log2 n);
        ad_group as in the log, if it has that.

    Raises:
        DataError: as `delivery.check_log`, or D001 when flags are to be read and there are none.
    """
    delivery = read_delivery(log, as_of)
    if rules.stop_source == "flag" and delivery.stopped is None:
        raise refuse(
            "stopped",
            "not in the data, but stop_source is flag",
            "Deliver the operators' stops, or tell stops by silence.",
            "D001",
        )
    lives, counts = lives_of(delivery, rules)
    candidates = _follow(delivery, lives, rules)
    is_row = candidates.exit >= candidates.entry
    counts.update(_absences(candidates.where(~is_row)))
    rows = candidates.where(is_row)
    table = _table(delivery, rows, rules)
    counts.update(_outcomes(table), rows=table.num_rows)
    old = rows.start < delivery.first_day
    counts["late_entry"] = int((rows.entry > rows.day).sum())
    counts["cut_history"] = int((old & (rows.landmark > 1)).sum())
    order = [("time", "ascending"), ("row_id", "ascending")]
    return LandmarkRows(table.sort_by(order), dict(sorted(counts.items())))


def lives_of(delivery: Delivery, rules: LandmarkRules) -> tuple[Lives, Counter[str]]:
    """Creatives that delivered and whose start is known, and the counts of all creatives."""
    shown = np.flatnonzero(delivery.amounts["impressions"] > 0)
    at = np.searchsorted(shown, delivery.first)
    delivered = at[1:] > at[:-1]
    seen = np.full(len(delivered), _NEVER)
    seen[delivered] = delivery.day[shown[at[:-1][delivered]]]
    in_sight = delivery.day[delivery.first[:-1]] > delivery.first_day
    launched = delivery.launched
    known = in_sight | (launched != UNKNOWN_DAY)
    before = (launched != UNKNOWN_DAY) & (launched < delivery.first_day)
    stop, told = _stops(delivery, seen, rules)
    early = _flagged_before(delivery, seen, rules)
    newest = np.full(len(delivered), -_NEVER)
    newest[delivered] = delivery.day[shown[at[1:][delivered] - 1]]
    kept = np.flatnonzero(delivered & known)
    counts = Counter(
        creatives=len(delivered),
        never_delivered=int((~delivered).sum()),
        unknown_start=int((delivered & ~known).sum()),
        resumed_after_stop=int((newest > stop)[kept].sum()),
        flagged_too_early=int(early[kept].sum()),
        days_without_rows=delivery.last_day - delivery.first_day + 1 - len(np.unique(delivery.day)),
    )
    start = np.where(before, launched, seen)
    return Lives(kept, start[kept], seen[kept], stop[kept], told[kept]), counts


def _stops(
    delivery: Delivery, seen: np.ndarray, rules: LandmarkRules
) -> tuple[np.ndarray, np.ndarray]:
    """`stop` and `told` of each creative in the log, int64[A] each."""
    stop, told = np.full((2, len(seen)), _NEVER)
    if rules.stop_source != "silence" and delivery.stopped is not None:
        creative = delivery.creative
        flagged = np.flatnonzero(delivery.stopped & (delivery.day >= seen[creative]))
        np.minimum.at(stop, creative[flagged], delivery.day[flagged])
        told = stop.copy()
    if rules.stop_source != "flag":
        creative, day, proved = _silences(delivery, rules.silent_days)
        np.minimum.at(stop, creative, day)
        np.minimum.at(told, creative, proved)
    return stop, told


def _flagged_before(delivery: Delivery, seen: np.ndarray, rules: LandmarkRules) -> np.ndarray:
    """Whether a flag that would count came before the first delivery, bool[A]."""
    early = np.zeros(len(seen), bool)
    if rules.stop_source != "silence" and delivery.stopped is not None:
        creative = delivery.creative
        early[creative[delivery.stopped & (delivery.day < seen[creative])]] = True
    return early


def _silences(delivery: Delivery, silent_days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Creatives, last delivered days before silences that are long enough, and when they were."""
    day, first = delivery.day, delivery.first
    shows, active = delivery.amounts["impressions"] > 0, delivery.status == 0
    is_first = np.zeros(len(day) + 1, bool)
    is_first[first] = True
    # A creative-day speaks for the days until the next one of its creative.
    until = np.append(day[1:], delivery.last_day + 1)
    until[first[1:] - 1] = delivery.last_day + 1
    # A run of creative-days without delivery, all active, or led by a delivery.
    begins = is_first[:-1] | shows | ~active
    begins[1:] |= ~active[:-1]
    run = np.flatnonzero(begins)
    last = np.append(run, len(day))[1:] - 1
    silent = until[last] - day[run] - shows[run]
    delivered = np.maximum.accumulate(np.where(shows, np.arange(len(day)), -1))
    creative = delivery.creative[run]
    proves = active[run] & (silent >= silent_days) & (delivered[run] >= first[creative])
    long_enough = day[run] + shows[run] + silent_days - 1
    return creative[proves], day[delivered[run[proves]]], long_enough[proves]


def _follow(delivery: Delivery, lives: Lives, rules: LandmarkRules) -> _Rows:
    """Every creative at every landmark; where exit < entry there is no row."""
    marks = len(rules.landmarks)
    creative, start, seen, stop = (
        np.repeat(values, marks) for values in (lives.creative, lives.start, lives.seen, lives.stop)
    )
    landmark = np.tile(np.array(rules.landmarks, np.int64), len(lives.creative))
    entry = np.maximum(seen, start + landmark - 1)
    maturity = 0 if rules.stop_source == "flag" else rules.silent_days
    interrupted, by = _interruptions(delivery, creative, entry, rules)
    judged = np.full(len(entry), delivery.last_day - maturity)
    ends = np.stack([interrupted, start + rules.horizon - 2, judged])
    # Of several reasons why there is no row the first is told.
    ends = np.maximum(ends, entry - 1)
    which, end = ends.argmin(0), ends.min(0)
    return _Rows(
        creative=creative,
        landmark=landmark,
        start=start,
        entry=entry,
        exit=np.minimum(stop, end),
        is_stopped=(stop <= end) | (stop < entry),
        censored_by=np.choose(which, [by, _HORIZON, _LOG_END]),
    )


def _interruptions(
    delivery: Delivery, creative: np.ndarray, entry: np.ndarray, rules: LandmarkRules
) -> tuple[np.ndarray, np.ndarray]:
    """Last day at risk before the campaign stops being active, and its index of `CENSORED_BY`."""
    size = len(delivery.day)
    off = np.where(delivery.status > 0, np.arange(size), size)
    # Index of the first creative-day on or after each that is not active.
    off = np.minimum.accumulate(off[::-1])[::-1]
    at = off[delivery.search(creative, entry + 1) - 1]
    exists = at < delivery.first[creative + 1]
    at = np.where(exists, at, 0)
    at_risk = delivery.amounts["impressions"][at] > 0
    if rules.stop_source != "silence" and delivery.stopped is not None:
        at_risk |= delivery.stopped[at]
    # Of an interruption that began before the entry this is a day before the entry as well.
    last = delivery.day[at] - 1 + at_risk
    return np.where(exists, last, _NEVER), np.where(exists, delivery.status[at] - 1, 0)


def _absences(gone: _Rows) -> dict[str, int]:
    names = np.where(gone.is_stopped, "stopped", np.array(CENSORED_BY)[gone.censored_by])
    return {f"absent.{name}": int(n) for name, n in zip(*np.unique_counts(names), strict=True)}


def _outcomes(table: pa.Table) -> dict[str, int]:
    counts = {}
    for column, word in (("cause", "stopped"), ("censored_by", "censored")):
        for entry in table[column].drop_null().value_counts().to_pylist():
            counts[f"{word}.{entry['values']}"] = entry["counts"]
    return counts


def _table(delivery: Delivery, rows: _Rows, rules: LandmarkRules) -> pa.Table:
    features = features_before(delivery, rows.creative, rows.start, rows.day, rules.max_history)
    entry, exit_ = rows.entry - rows.start + 1, rows.exit - rows.start + 1
    cause = (exit_ >= rules.age_of_wear_out).astype(np.int64)
    names = (features["creative"], pa.array(rows.landmark))
    labels = {
        "row_id": pc.binary_join_element_wise(*(c.cast(pa.string()) for c in names), "@"),
        "day": pa.array(rows.day.astype(np.int32)).cast(pa.date32()),
        "time": pa.array(rows.day * _DAY_US).cast(pa.timestamp("us", "UTC")),
        "landmark": pa.array(rows.landmark.astype(np.int32)),
        "entry": pa.array(entry.astype(np.int32)),
        "exit": pa.array(exit_.astype(np.int32)),
        "stopped": pa.array(rows.is_stopped.astype(np.int8)),
        "cause": pa.array(CAUSES).take(pa.array(cause, mask=~rows.is_stopped)),
        "censored_by": pa.array(CENSORED_BY).take(pa.array(rows.censored_by, mask=rows.is_stopped)),
    }
    columns = labels | features
    optional = [AD_GROUP] if AD_GROUP in features else []
    return pa.table({name: columns[name] for name in (*COLUMNS, *optional)})
