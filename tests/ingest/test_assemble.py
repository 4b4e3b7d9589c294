"""Assembled rows against a loop over the raw files of a small world."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.plan import make_plan
from recsys_mtl.errors import DataError
from recsys_mtl.ingest.assemble import assemble, encode_rows, raw_columns
from recsys_mtl.ingest.context import resolve_inputs, source_context
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.ingest.fit import finish, partial_fit

from .worlds import (
    DAY,
    FIRST,
    ROWS,
    day_name,
    edit,
    load,
    log_of,
    with_column,
    with_value,
    write_feed,
)

SECOND = 1_000_000


def assembled(tmp_path, feed, change=None, change_spec=None, with_labels=True):
    """All shards of a feed, assembled."""
    loaded = load(tmp_path / "p", feed, change, change_spec)
    inputs = resolve_inputs(loaded, None)
    context = (loaded, loaded.spec, inputs.files, inputs.interval, tmp_path / "w", with_labels)
    with source_context(*context) as ctx:
        return [assemble(task, ctx) for task in inputs.plan.tasks], ctx


@pytest.fixture
def feed(tmp_path):
    return write_feed(tmp_path / "feed")


def day_file(feed, day=1):
    return feed / "rows" / f"{day_name(day)}.parquet"


def columns(parts, *names):
    table = pa.concat_tables(part.table.select(list(names)) for part in parts)
    return [table[name].to_pylist() for name in names]


def test_histories_equal_a_loop_over_the_log(tmp_path, feed):
    parts, _ = assembled(tmp_path, feed)
    events = [
        (e["user_id"], e["ts"].timestamp(), e["item_id"])
        for day in range(4)
        for e in log_of(day).to_pylist()
        if e["action"] == "click"
    ]
    users, times, found = columns(parts, "user_id", "key__time", "clicks__item")
    lengths = []
    for user, time, history in zip(users, times, found, strict=True):
        known = [e for e in events if e[0] == user and round(e[1] * SECOND) < time - SECOND]
        assert history == [e[2] for e in sorted(known, key=lambda e: e[1])][-5:]
        lengths.append(len(history))
    assert set(lengths) == set(range(6))


def test_side_columns_and_splits_follow_their_rules(tmp_path, feed):
    edit(feed / "users.parquet", lambda t: t.slice(1))
    parts, _ = assembled(tmp_path, feed)
    users, cities = columns(parts, "user_id", "users.city")
    assert cities == [None if u == 0 else f"c{u % 4}" for u in users]
    assert sum(part.counts["unmatched__users"] for part in parts) == users.count(0) > 0
    splits = [part.table["key__split"].to_pylist() for part in parts]
    assert splits == [[0] * ROWS, [0] * ROWS, [1] * ROWS, [2] * ROWS]


def test_rows_of_an_embargo_have_no_split(tmp_path, feed):
    def embargo(p):
        p["split"]["embargo"] = "12h"

    parts, _ = assembled(tmp_path, feed, embargo)
    times, splits = columns(parts, "key__time", "key__split")
    day = (np.array(times) - FIRST * DAY) / DAY
    expected = np.select([day < 1.5, (day >= 2) & (day < 2.5), day >= 3], [0, 1, 2], -1)
    assert splits == expected.tolist()
    assert set(splits) == {-1, 0, 1, 2}


def test_assigned_row_ids_number_all_rows_whatever_the_shards(tmp_path):
    feed = write_feed(tmp_path / "feed", row_group=7)

    def assign(spec):
        spec["sources"]["rows"]["keys"]["row_id"] = "assign"

    def small(p):
        p["ingest"]["shard_rows"] = 20

    parts, _ = assembled(tmp_path, feed, small, assign)
    assert [part.table.num_rows for part in parts] == [14, 14, 14, 18] * 4
    ids, given = columns(parts, "key__row_id", "price")
    assert ids == list(range(4 * ROWS))
    raw = [v for day in range(4) for v in pq.read_table(day_file(feed, day))["price"].to_pylist()]
    assert given == raw
    assert np.concatenate([part.file_rows for part in parts]).tolist() == list(range(ROWS)) * 4


def test_rows_without_group_or_time_are_set_aside_with_their_row_and_reason(tmp_path, feed):
    edit(day_file(feed), with_value("user_id", 3, None))
    edit(day_file(feed), with_value("ts", 7, None))
    parts, _ = assembled(tmp_path, feed)
    part = parts[1]
    assert part.quarantined.to_pylist() == [
        {"row_id": ROWS + 3, "row": 3, "reason": "no user_id"},
        {"row_id": ROWS + 7, "row": 7, "reason": "no ts"},
    ]
    assert part.table.num_rows == ROWS - 2
    assert part.file_rows.tolist() == [i for i in range(ROWS) if i not in (3, 7)]


def test_a_group_that_is_not_a_number_is_none(tmp_path, feed):
    users = [float(u) for u in pq.read_table(day_file(feed))["user_id"].to_pylist()]
    edit(day_file(feed), with_column("user_id", [float("nan"), *users[1:]]))
    parts, _ = assembled(tmp_path, feed)
    assert parts[1].quarantined["row"].to_pylist() == [0]


def test_rows_to_score_need_no_window(tmp_path, feed):
    def flat(p):
        p["data"]["rows"] = {"path": "rows/*.parquet"}

    loaded = load(tmp_path / "p", feed, flat)
    files, interval = resolve_files(loaded, None)
    with source_context(loaded, loaded.spec, files, interval, tmp_path / "w", False) as ctx:
        task = make_plan(files.root, files.rows, ROWS).tasks[0]
        assert assemble(task, ctx).table.num_rows == ROWS


def test_scoring_rows_need_no_labels(tmp_path, feed):
    for day in range(4):
        edit(day_file(feed, day), lambda t: t.drop_columns(["click", "buy"]))
    parts, ctx = assembled(tmp_path, feed, with_labels=False)
    assert "key__split" not in parts[0].table.column_names
    assert raw_columns(ctx) == ["rid", "user_id", "ts", "item_id", "price"]


def test_a_file_and_its_csv_are_assembled_alike(tmp_path, feed):
    before, _ = assembled(tmp_path, feed)
    for day in range(4):
        table = pq.read_table(day_file(feed, day))
        table = table.set_column(3, "ts", table["ts"].cast(pa.int64()))
        csv.write_csv(table, day_file(feed, day).with_suffix(".csv"))

    def as_csv(p):
        p["data"]["rows"] = {"path": "rows/{date}.csv", "format": "csv"}

    after, _ = assembled(tmp_path / "csv", feed, as_csv)
    names = ("rid", "user_id", "key__time", "users.city", "clicks__item", "key__split")
    assert columns(after, *names) == columns(before, *names)


def test_a_log_with_keys_of_another_type_than_the_rows_is_refused(tmp_path, feed):
    for path in (feed / "log").glob("*.parquet"):
        edit(path, with_column("user_id", lambda values: [str(v) for v in values]))
    with pytest.raises(
        DataError, match=r"2026-03-01.parquet: column 'user_id': holds int keys, but"
    ):
        assembled(tmp_path, feed)


def test_all_problems_of_all_logs_are_reported_with_their_file(tmp_path, feed):
    edit(feed / "log" / f"{day_name(1)}.parquet", lambda t: t.drop_columns("item_id"))
    (feed / "log" / f"{day_name(2)}.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError) as caught:
        assembled(tmp_path, feed)
    assert [p.code for p in caught.value.problems] == ["D001", "D020"]
    assert f"{day_name(1)}.parquet: column 'item_id' is missing" in str(caught.value)
    assert not (tmp_path / "w" / "_events").exists()


def test_a_filter_without_events_warns(tmp_path, feed, caplog):
    def misspell(spec):
        spec["sequences"][0]["events"]["where"]["equals"] = "clik"

    parts, _ = assembled(tmp_path, feed, None, misspell)
    assert columns(parts, "clicks__item") == [[[]] * 4 * ROWS]
    assert "sequence 'clicks' is empty for every row: no event of log 'log'" in caplog.text


def test_what_cannot_be_encoded_names_file_and_row(tmp_path, feed):
    loaded = load(tmp_path / "p", feed)
    inputs = resolve_inputs(loaded, None)
    edit(day_file(feed), with_value("user_id", 0, None))
    with source_context(
        loaded, loaded.spec, inputs.files, inputs.interval, tmp_path / "w", True
    ) as ctx:
        good, bad = inputs.plan.tasks[:2]
        fit = finish(
            [partial_fit(assemble(good, ctx).table, ctx.spec, ctx.source)], ctx.spec, "rows"
        )
        edit(day_file(feed), with_value("click", 9, 2))
        with pytest.raises(DataError) as caught:
            encode_rows(bad, ctx, fit)
    assert f"{day_name(1)}.parquet: column 'click': 1 rows hold no label (first 2 at row 9)" in str(
        caught.value
    )
