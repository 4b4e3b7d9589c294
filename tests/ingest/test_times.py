"""Times become microseconds, or are refused with the way out."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.times import known_before, time_us

NOON = 1_772_366_400
"""2026-03-01 12:00 UTC, in seconds."""


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_timestamps_of_any_unit_and_zone_are_instants(unit, zone):
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    column = pa.array([NOON * scale, None], pa.int64()).cast(pa.timestamp(unit, zone))
    assert time_us(column, "ts", "us").to_pylist() == [NOON * 10**6, None]


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**6), ("ms", 10**3), ("us", 1)])
def test_integers_are_read_in_their_unit(unit, factor):
    assert time_us(pa.array([7, None], pa.int32()), "ts", unit).to_pylist() == [7 * factor, None]


def test_cut_off_nanoseconds_never_put_an_event_before_a_row_it_was_not_before():
    ns = pa.array([-1001, -1000, -999, -1, 0, 1, 999, 1000, 1001])
    us = time_us(ns.cast(pa.timestamp("ns")), "ts", "us").to_numpy()
    event, row = np.meshgrid(np.arange(9), np.arange(9))
    was_before = ns.to_numpy()[event] < ns.to_numpy()[row]
    assert was_before[us[event] < us[row]].all()


@pytest.mark.parametrize(
    "column",
    [pa.array(["2026-03-01"]), pa.array([date(2026, 3, 1)]), pa.array([1.5])],
    ids=lambda column: str(column.type),
)
def test_other_types_are_refused(column):
    with pytest.raises(
        DataError, match=r"'ts': holds .*a time is a timestamp, or an integer.*D001"
    ):
        time_us(column, "ts", "us")


def test_a_wrong_unit_that_leaves_64_bits_is_named():
    microseconds = pa.array([NOON * 10**6, None])
    with pytest.raises(DataError, match=r"\(up to 1772366400000000 s\).*`time_unit`.*D043"):
        time_us(microseconds, "ts", "s")
    far = pa.array([2**62]).cast(pa.timestamp("s"))
    with pytest.raises(DataError, match="D043"):
        time_us(far, "ts", "us")


def test_a_time_near_the_smallest_integer_does_not_wrap_into_the_future():
    times = np.array([-(2**63), -(2**63) + 5, 100])
    assert known_before(times, 10).tolist() == [-(2**63), -(2**63), 90]
