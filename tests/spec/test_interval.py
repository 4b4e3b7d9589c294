"""Half-open windows of local days in microseconds UTC."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.interval import (
    DAY_US,
    Interval,
    day_start_us,
    local_day,
    parse_end,
    parse_interval,
)

offsets = st.sampled_from(["0h", "9h", "-3h", "330m", "-570m"])


def test_days_by_hand():
    assert DAY_US == 86_400_000_000
    assert day_start_us(date(1970, 1, 2)) == DAY_US
    # Tokyo's 2 January starts at 15:00 UTC on the 1st.
    assert day_start_us(date(1970, 1, 2), "9h") == 15 * 3_600_000_000
    assert local_day(15 * 3_600_000_000, "9h") == date(1970, 1, 2)
    assert local_day(15 * 3_600_000_000 - 1, "9h") == date(1970, 1, 1)
    assert local_day(-1) == date(1969, 12, 31)


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)), offsets)
def test_a_day_holds_its_start_and_not_the_moment_before(day, offset):
    start = day_start_us(day, offset)
    assert local_day(start, offset) == day
    assert local_day(start + DAY_US - 1, offset) == day
    assert local_day(start - 1, offset) < day


@pytest.mark.parametrize(
    ("text", "offset", "day"),
    [
        ("2026-03-11", "0h", date(2026, 3, 11)),
        ("2026-03-11", "9h", date(2026, 3, 11)),
        ("2026-03-11T03:00:00Z", "0h", date(2026, 3, 11)),
        ("2026-03-11T03:00:00", "0h", date(2026, 3, 11)),
        ("2026-03-10T16:00:00Z", "9h", date(2026, 3, 11)),
        ("2026-03-11T01:00:00+02:00", "0h", date(2026, 3, 10)),
    ],
)
def test_an_end_is_rounded_down_to_a_local_day(text, offset, day):
    assert parse_end(text, offset) == day


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), offsets)
def test_a_time_ends_on_the_day_that_holds_it(moment, offset):
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    assert parse_end(moment.isoformat() + "Z", offset) == local_day(us, offset)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "11.3.2026", "20260230"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"--interval-end .* is not a time; give a date such as"):
        parse_end(text)


def test_windows():
    window = parse_interval("2026-03-01", "2026-03-08")
    assert window.end_us - window.start_us == 7 * DAY_US
    assert window.as_json() == {"start_us": window.start_us, "end_us": window.end_us}
    shifted = parse_interval("2026-03-01", "2026-03-08", "1h")
    assert window.start_us - shifted.start_us == 3_600_000_000
    assert parse_interval(None, "1970-01-01").end_us == 0
    assert parse_interval(None, None) == Interval(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("start", "end"), [("2026-03-08", "2026-03-08"), ("2026-03-09", "2026-03-08")]
)
def test_an_empty_window_is_refused(start, end):
    with pytest.raises(ConfigError, match="is empty; the end is exclusive"):
        parse_interval(start, end)
