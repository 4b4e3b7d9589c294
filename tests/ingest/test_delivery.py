from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.delivery import UNKNOWN_DAY, check_log, read_delivery
from tests.ingest.delivery_days import log_of, on

GOOD = log_of(["dd0p", ".dee"], [1, None])


def changed(name, values):
    """`GOOD` with other values in some rows of a column."""
    rows = GOOD.to_pylist()
    for row, value in values.items():
        rows[row][name] = value
    return pa.Table.from_pylist(rows, GOOD.schema)


def problems_of(log):
    with pytest.raises(DataError) as caught:
        check_log(log)
    return [
        (p.where, p.code, p.row, p.message.split("(")[0].strip()) for p in caught.value.problems
    ]


def test_a_log_is_put_in_order_of_creative_and_day():
    check_log(GOOD)
    order = [6, 3, 0, 5, 2, 1, 4]
    delivery = read_delivery(GOOD.take(pa.array(order)), on(3))
    assert delivery.static["creative"].to_pylist() == [0, 1]
    assert delivery.first.tolist() == [0, 3, 5]
    assert (delivery.day - delivery.day[0] + 1).tolist() == [1, 2, 3, 2, 3]
    assert (delivery.first_day, delivery.last_day) == (delivery.day[0], delivery.day[2])
    assert delivery.status.tolist() == [0, 0, 0, 0, 2]
    assert delivery.launched.tolist() == [delivery.day[0], UNKNOWN_DAY]
    assert delivery.amounts["spend"].tolist() == GOOD["spend"].take([0, 1, 2, 4, 5]).to_pylist()


def test_search_finds_the_first_row_on_or_after_a_day():
    delivery = read_delivery(log_of(["d.d", "..d"]), on(9))
    creative = np.repeat([0, 1], 6)
    day = np.tile([-(10**7), 1, 2, 3, 4, 10**7], 2) + delivery.first_day - 1
    assert delivery.search(creative, day).tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("column", "values", "code", "message"),
    [
        ("creative", {2: None}, "D007", "1 rows have no id"),
        ("day", {2: None, 4: None}, "D007", "2 rows have no day"),
        (
            "day",
            {2: on(2)},
            "D071",
            "1 rows repeat a creative's day; a creative has one row per day",
        ),
        ("impressions", {2: -1}, "D061", "1 rows hold no finite amount from 0 on"),
        ("impressions", {2: None}, "D061", "1 rows hold no finite amount from 0 on"),
        ("conversions", {2: -1, 3: -5}, "D061", "2 rows hold no finite amount from 0 on"),
        ("spend", {2: -0.5}, "D061", "1 rows hold no finite amount from 0 on"),
        (
            "spend",
            {2: float("nan"), 3: float("inf")},
            "D061",
            "2 rows hold no finite amount from 0 on",
        ),
        ("clicks", {2: 1}, "D061", "1 rows have more clicks than impressions"),
        (
            "status",
            {2: "stopped", 3: None},
            "D006",
            "2 rows have no status of active, paused, ended, budget, policy",
        ),
        ("launched", {2: on(0)}, "D006", "1 rows disagree with their creative's first"),
        ("launched", {2: None}, "D006", "1 rows disagree with their creative's first"),
    ],
)
def test_a_fault_is_told_with_its_column_and_first_row(column, values, code, message):
    assert problems_of(changed(column, values)) == [(f"column {column!r}", code, 2, message)]


def test_no_creative_delivers_before_its_launch():
    late = changed("launched", {row: on(2) for row in range(4)})
    assert problems_of(late) == [
        ("column 'launched'", "D006", 0, "1 rows deliver before the launch")
    ]


def test_rows_are_those_of_the_log_at_hand_when_later_ones_are_left_out():
    log = pa.concat_tables([log_of(["....d"]), changed("conversions", {3: -1})])
    with pytest.raises(DataError, match=r"first at row 4\)"):
        read_delivery(log, on(4))
    with pytest.raises(DataError, match=r"first at row 4\)"):
        check_log(log)
    assert len(read_delivery(log, on(3)).day) == 5


def test_all_faults_are_told_at_once():
    log = GOOD.drop_columns(["genre", "spend", "creative"])
    for name, values in {
        "impressions": pa.array([1.0] * 7),
        "status": pa.array(["?"] * 7),
        "launched": pa.array(["2026-03-01"] * 7),
        "stopped": pa.array([1] * 7),
    }.items():
        log = log.set_column(log.schema.get_field_index(name), name, values)
    found = {where.split("'")[1]: code for where, code, _, _ in problems_of(log)}
    assert found == {
        "creative": "D001",
        "genre": "D001",
        "spend": "D001",
        "impressions": "D001",
        "status": "D006",
        "launched": "D001",
        "stopped": "D001",
    }


def test_without_days_nothing_else_is_judged():
    for days in (None, pa.array(["2026-03-01"] * 7)):
        log = GOOD.drop_columns(["day", "spend"])
        log = log if days is None else log.append_column("day", days)
        assert [(where, code) for where, code, *_ in problems_of(log)] == [("column 'day'", "D001")]


def test_an_empty_log_has_no_creatives():
    for log, as_of in ((GOOD.slice(0, 0), date.max), (GOOD, on(0))):
        delivery = read_delivery(log, as_of)
        assert delivery.first.tolist() == [0]
        assert delivery.static.num_rows == len(delivery.day) == 0
