"""Creatives that are alive today, and those that were on each day of a window."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.delivery import COUNTS, read_delivery
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows

OF_THE_DAY = {name: f"{name}_of_day" for name in (*COUNTS, "spend")}
"""Columns of what a creative delivered on the row's own day; known only after it."""
SEEN = "seen_alive"
"""Whether a table of live creatives would have shown it that morning: it has delivered within
`silent_days`, and the newest status is active."""


def live_creatives(log: pa.Table, rules: LandmarkRules, end: date) -> pa.Table:
    """Creatives at risk on day `end`, each at its age then, with features of all days before.

    Whoever has been silent for `silent_days` days already counts as stopped.
    """
    silent = timedelta(days=rules.silent_days)
    is_recent = pc.and_(
        pc.greater_equal(log["day"], pa.scalar(end - silent)), pc.less(log["day"], pa.scalar(end))
    )
    recent = log.filter(pc.and_(is_recent, pc.greater(log["impressions"], 0)))
    alive = pc.unique(recent["creative"])
    known = log.filter(
        pc.and_(pc.is_in(log["creative"], alive), pc.less(log["day"], pa.scalar(end)))
    )
    if not known.num_rows:
        return landmark_rows(log, rules, end - timedelta(days=1)).table.slice(0, 0)
    # Whoever is alive has a row on day `end`, under the newest status and without delivery.
    newest = known.sort_by([("creative", "ascending"), ("day", "descending")])
    codes = newest["creative"].combine_chunks().dictionary_encode().indices.to_numpy()
    today = newest.filter(pa.array(np.diff(codes, prepend=-1) != 0))
    empty = {"day": end, **dict.fromkeys(OF_THE_DAY, 0)}
    for name, value in empty.items():
        column = pa.array([value] * today.num_rows, log.schema.field(name).type)
        today = today.set_column(today.column_names.index(name), name, column)
    every_age = replace(rules, landmarks=tuple(range(1, rules.horizon)), stop_source="flag")
    # Whether a creative began before the log shows by the log's own first day.
    others = pc.invert(pc.is_in(log["creative"], alive))
    oldest = log.filter(pc.and_(others, pc.equal(log["day"], pc.min(log["day"]))))
    whole = _flagged(pa.concat_tables([known, today, oldest]), rules)
    rows = landmark_rows(whole, every_age, end).table
    is_live = pc.and_(pc.is_in(rows["creative"], alive), pc.equal(rows["day"], pa.scalar(end)))
    return rows.filter(is_live)


def _flagged(log: pa.Table, rules: LandmarkRules) -> pa.Table:
    """The log with the flags that count: without any where stops are told by silence alone."""
    if "stopped" in log.column_names and rules.stop_source != "silence":
        return log
    if "stopped" in log.column_names:
        log = log.drop_columns(["stopped"])
    return log.append_column("stopped", pa.array(np.zeros(log.num_rows, bool)))


def alive_days(
    log: pa.Table, chosen: pa.Array, rules: LandmarkRules, window: tuple[date, date]
) -> pa.Table:
    """Rows of chosen creatives, with what was known on the morning of each day.

    Args:
        log: as `survival.landmark_rows` takes it.
        chosen: ids of creatives.
        rules: of labels; every age is a landmark.
        window: first day, and the day after the last; what is later is ignored.

    Returns:
        A row per creative and day on which it was at risk: columns of `survival.landmark_rows`,
        those of `OF_THE_DAY`, and `SEEN`.

    Raises:
        DataError: as `survival.landmark_rows`.
    """
    first, end = window
    last = end - timedelta(days=1)
    log = log.filter(pc.less(log["day"], pa.scalar(end)))
    inside = pc.greater_equal(log["day"], pa.scalar(first))
    seen = pc.unique(log.filter(pc.and_(inside, pc.is_in(log["creative"], chosen)))["creative"])
    # What is known of a creative depends on where the log begins and ends.
    ends = pc.min_max(log["day"])
    is_end = pc.or_(pc.equal(log["day"], ends["min"]), pc.equal(log["day"], ends["max"]))
    log = log.filter(pc.or_(pc.is_in(log["creative"], seen), is_end))
    every_age = replace(rules, landmarks=tuple(range(1, rules.horizon)))
    rows = landmark_rows(log, every_age, last).table
    at_risk = pc.and_(
        pc.greater_equal(rows["day"], pa.scalar(first)), pc.equal(rows["entry"], rows["landmark"])
    )
    rows = rows.filter(pc.and_(at_risk, pc.is_in(rows["creative"], seen)))
    delivery = read_delivery(log, last)
    creative = pc.index_in(rows["creative"], delivery.static["creative"].combine_chunks())
    creative = creative.to_numpy().astype(np.int64)
    day = rows["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    at = delivery.search(creative, day)
    exists = delivery.search(creative, day + 1) > at
    for name, column in OF_THE_DAY.items():
        values = np.append(delivery.amounts[name], 0)[np.where(exists, at, -1)]
        rows = rows.append_column(column, pa.array(values))
    shown = np.append(0, np.cumsum(delivery.amounts["impressions"] > 0))
    is_recent = shown[at] > shown[delivery.search(creative, day - rules.silent_days)]
    # Where one delivered before the day there is a row before it.
    return rows.append_column(SEEN, pa.array(is_recent & (delivery.status[at - 1] == 0)))
