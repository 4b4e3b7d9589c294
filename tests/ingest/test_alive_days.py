"""Creatives that are alive, and the days on which they were."""

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_mtl.ingest.alive_days import OF_THE_DAY, SEEN, alive_days, live_creatives
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from tests.ingest.delivery_days import log_of, on

RULES = LandmarkRules((1, 3), 2, "flag", horizon=30, age_of_wear_out=4)
LOG = log_of(["dddddddddddd", "..ddddF", "....dd0dppdd", ".dddddd", ".....xdd"], [-3, *[None] * 4])
LAST = 12


def days_of(chosen, first, end, rules=RULES, log=LOG):
    return alive_days(log, pa.array(chosen), rules, (on(first), on(end)))


def test_a_row_for_every_day_at_risk_inside_the_window():
    """The second is stopped on day 7; the third begins on day 5 and pauses on days 9 and 10."""
    table = days_of([1, 2], 5, 13).to_pylist()
    assert [row["day"] for row in table if row["creative"] == 1] == [on(d) for d in (5, 6, 7)]
    assert [row["stopped"] for row in table if row["creative"] == 1] == [1, 1, 1]
    assert [row["day"] for row in table if row["creative"] == 2] == [
        on(d) for d in (5, 6, 7, 8, 11, 12)
    ]
    assert all(row["entry"] == row["landmark"] for row in table)


@pytest.mark.parametrize("source", ["flag", "silence", "either"])
def test_rows_are_landmark_rows_whatever_else_is_in_the_log(source):
    """Whether a creative began before the log does not depend on who is chosen."""
    rules = replace(RULES, stop_source=source)
    ages = replace(rules, landmarks=tuple(range(1, 30)))
    whole = landmark_rows(LOG, ages, on(LAST)).table
    whole = whole.filter(
        pc.and_(pc.greater_equal(whole["day"], on(6)), pc.equal(whole["entry"], whole["landmark"]))
    )
    for chosen in ([0], [1, 3], [2], [0, 1, 2, 3, 4]):
        found = days_of(chosen, 6, 13, rules).drop_columns([*OF_THE_DAY.values(), SEEN])
        expected = whole.filter(pc.is_in(whole["creative"], pa.array(chosen)))
        assert found.num_rows
        assert found.equals(expected)


def test_what_a_day_delivered_is_that_of_its_row_in_the_log():
    table = days_of([0, 2], 1, 13)
    assert table.filter(pc.equal(table["creative"], 2))["impressions_of_day"].to_pylist()[2] == 0
    for row in table.to_pylist():
        (line,) = [
            line
            for line in LOG.to_pylist()
            if (line["creative"], line["day"]) == (row["creative"], row["day"])
        ]
        assert {name: row[column] for name, column in OF_THE_DAY.items()} == {
            name: line[name] for name in OF_THE_DAY
        }


def test_days_without_a_row_delivered_nothing():
    log = log_of(["dddddddd", ".d.dd"])
    table = days_of([1], 1, 6, replace(RULES, silent_days=3), log)
    assert table["impressions_of_day"].to_pylist()[1] == 0
    assert table["day"].to_pylist() == [on(2) + timedelta(days=i) for i in range(4)]


@pytest.mark.parametrize(
    ("creative", "expected"),
    [(1, {3: False, 4: True, 7: True}), (2, {5: False, 6: True, 8: True, 11: False, 12: True})],
    ids=["not before its first day", "nor while yesterday's status is a pause"],
)
def test_a_creative_is_seen_by_what_was_known_that_morning(creative, expected):
    """The first begins on day 3; the other is at risk on day 11, but nobody knows before."""
    rows = days_of([creative], 1, 13).to_pylist()
    seen = {on(day): flag for day, flag in expected.items()}
    assert {row["day"]: row[SEEN] for row in rows if row["day"] in seen} == seen


def test_a_creative_that_has_been_silent_for_long_is_not_seen():
    """With two silent days: seen on the second, when it could still deliver, not on the third."""
    log = log_of(["ddddddddd", ".dd...ddd"])
    rows = days_of([1], 1, 10, log=log).to_pylist()
    assert [row[SEEN] for row in rows] == [False, True, True, True, False, False, True, True]


def test_what_comes_after_the_window_changes_nothing():
    shorter = LOG.filter(pc.less(LOG["day"], on(9)))
    assert days_of([1, 2, 3], 3, 9).equals(days_of([1, 2, 3], 3, 9, log=shorter))


def test_nobody_in_the_window_gives_an_empty_table_of_the_same_columns():
    empty = days_of([1], 9, 13)
    assert empty.num_rows == 0 and empty.schema.equals(days_of([1], 5, 13).schema)


def test_whoever_began_inside_the_log_is_alive_even_if_all_older_ones_are_gone():
    """Of the creatives that are left the second is the oldest, but the log is older."""
    log = log_of(["ddF", ".ddddddd", "..dddddd"])
    live = live_creatives(log, RULES, on(9)).to_pylist()
    assert [(row["creative"], row["landmark"]) for row in live] == [(1, 8), (2, 7)]


def test_stops_that_silence_tells_need_no_flags():
    log = log_of(["dd", ".ddddddd", "..ddF...", "...ddddd"])
    silence = replace(RULES, stop_source="silence")
    for known in (log, log.drop_columns(["stopped"])):
        assert live_creatives(known, silence, on(9))["creative"].to_pylist() == [1, 3]
    # A flag inside the silent days counts where flags do.
    flagged = log_of(["dd", ".ddddddF", "...ddddd"])
    assert live_creatives(flagged, silence, on(9))["creative"].to_pylist() == [1, 2]
    assert live_creatives(flagged, RULES, on(9))["creative"].to_pylist() == [2]
    either = replace(RULES, stop_source="either")
    assert live_creatives(log.drop_columns(["stopped"]), either, on(9)).num_rows == 2
