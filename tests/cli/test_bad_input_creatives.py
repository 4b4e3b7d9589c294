"""Bad delivery logs and ad-level blocks: each ends with its exit code, its place, a way out and
no artifact."""

import shutil
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.ads import write_ads_pipeline
from tests.cli.creatives_input import (
    DAY,
    END,
    all_days,
    cast,
    edit_creatives,
    ingested,
    refused,
    set_typed,
)
from tests.cli.test_bad_input import change, invoke, published, set_column, set_value

# Values, told by the daily file and the row in it.


@pytest.mark.parametrize(
    ("column", "value", "text", "code"),
    [
        ("impressions", -1, "1 rows hold no finite amount from 0 on", "D061"),
        ("clicks", None, "1 rows hold no finite amount from 0 on", "D061"),
        ("spend", np.inf, "1 rows hold no finite amount from 0 on", "D061"),
        ("clicks", 10**6, "1 rows have more clicks than impressions", "D061"),
        ("status", "archived", "1 rows have no status of active, paused, ended", "D006"),
        ("creative", None, "1 rows have no id", "D007"),
        ("campaign", None, "1 rows have no campaign", "D007"),
        ("day", date(2026, 3, 6), "1 rows are of another day than their file", "D043"),
    ],
)
def test_a_value_that_cannot_be(tmp_path, own, column, value, text, code):
    change(own / DAY, set_typed(column, 7, value))
    where = f"{DAY}: column {column!r}: "
    refused(tmp_path, own, 3, where, text, "at row 7", f"Nothing was published. [{code}]")


def test_a_row_without_a_day(tmp_path, own):
    change(own / DAY, set_typed("day", 3, None))
    refused(tmp_path, own, 3, f"{DAY}: column 'day': 1 rows have no day (first at row 3)", "[D007]")


def test_a_launch_that_changes(tmp_path, own):
    before = pq.read_table(own / "delivery/2026-03-04.parquet")["creative"].to_pylist()
    today = pq.read_table(own / DAY)["creative"].to_pylist()
    row = next(i for i, creative in enumerate(today) if creative in before and i > 4)
    change(own / DAY, set_typed("launched", row, date(2026, 1, 1)))
    text = f"1 rows disagree with their creative's first (first at row {row})"
    refused(tmp_path, own, 3, f"{DAY}: column 'launched': {text}", "[D006]")


def test_clicks_without_impressions_are_more_clicks_than_impressions(tmp_path, own):
    change(own / DAY, lambda t: set_typed("clicks", 2, 1)(set_typed("impressions", 2, 0)(t)))
    refused(tmp_path, own, 3, f"{DAY}: column 'clicks'", "more clicks than impressions", "row 2")


def test_repeated_creative_days(tmp_path, own):
    rows = pq.read_table(own / DAY).num_rows
    change(own / DAY, lambda t: pa.concat_tables([t, t.slice(4, 2)]))
    texts = (f"{DAY}: column 'day': 2 rows repeat a creative's day", f"first at row {rows:,}")
    refused(tmp_path, own, 3, *texts, "[D071]")


def test_a_creatives_day_in_two_files_is_told_in_the_second(tmp_path, own):
    (own / "delivery" / "2026-03-05").mkdir()
    shutil.move(own / DAY, own / "delivery/2026-03-05/a.parquet")
    for path in sorted((own / "delivery").glob("*.parquet")):
        (own / "delivery" / path.stem).mkdir()
        shutil.move(path, own / "delivery" / path.stem / "a.parquet")
    table = pq.read_table(own / "delivery/2026-03-05/a.parquet").slice(5, 1)
    pq.write_table(table, own / "delivery/2026-03-05/b.parquet")

    def folders(p):
        p["creatives"]["delivery"] = {"path": "delivery/{date}/*.parquet"}

    texts = ("2026-03-05/b.parquet: column 'day'", "repeat a creative's day", "first at row 0")
    refused(tmp_path, own, 3, *texts, pipeline=folders)


def test_problems_of_several_days_come_at_once_and_the_first_of_a_column_is_shown(tmp_path, own):
    change(own / DAY, set_typed("status", 7, "gone"))
    change(own / "delivery/2026-03-02.parquet", set_typed("clicks", 3, -2))
    change(own / "delivery/2026-03-15.parquet", set_typed("spend", 1, -1.0))
    texts = (f"{DAY}: column 'status'", "2026-03-02.parquet: column 'clicks'")
    refused(tmp_path, own, 3, *texts, "2026-03-15.parquet: column 'spend'")


# Columns and files.


def test_a_file_without_a_column(tmp_path, own):
    change(own / DAY, lambda t: t.rename_columns({"impressions": "impression"}))
    text = f"{DAY}: column 'impressions': is missing, did you mean 'impression'?"
    refused(tmp_path, own, 3, text, "Nothing was published. [D001]")


@pytest.mark.parametrize(
    ("column", "kind", "text"),
    [
        ("impressions", pa.float64(), "has type double; an integer is expected"),
        ("day", pa.timestamp("us"), "has type timestamp[us]; date32 is expected"),
        ("stopped", pa.int8(), "has type int8; bool is expected"),
        ("spend", pa.string(), "has type string; a number is expected"),
    ],
)
def test_a_column_of_another_type(tmp_path, own, column, kind, text):
    change(own / DAY, cast(column, kind))
    refused(tmp_path, own, 3, f"{DAY}: column {column!r}: {text}", "[D001]")


def test_ids_that_are_numbers_in_one_file_and_strings_in_another(tmp_path, own):
    change(own / DAY, cast("creative", pa.string()))
    refused(tmp_path, own, 3, f"{DAY}: column 'creative': holds string ids, but int ids", "[D033]")


def test_an_optional_column_in_some_files_only(tmp_path, own):
    change(own / DAY, lambda t: t.drop_columns("launched"))
    text = "column 'launched': is missing, but 2026-03-01.parquet has it"
    refused(tmp_path, own, 3, f"{DAY}: {text}", "in all files or in none", "[D001]")


def test_flags_that_the_block_asks_for_and_the_log_lacks(tmp_path, own):
    all_days(own, lambda table, day: table.drop_columns("stopped"))
    text = "delivery: column 'stopped': not in the data, but stop_source is flag"
    refused(tmp_path, own, 3, text, "tell stops by silence", "[D001]")


def test_a_damaged_file(tmp_path, own):
    (own / DAY).write_bytes((own / DAY).read_bytes()[:400])
    refused(tmp_path, own, 3, f"{DAY}: cannot be read", "[D020]")


def test_a_missing_day(tmp_path, own):
    (own / DAY).unlink()
    texts = ("1 of 16 days of the log are missing: 2026-03-05", "a file without rows", "[D042]")
    refused(tmp_path, own, 3, "delivery/{date}.parquet", *texts)


def test_an_interval_that_the_log_does_not_reach_or_that_ends_before_it(tmp_path, own):
    flags = ("--interval-end", str(END + timedelta(days=1)))
    refused(tmp_path, own, 3, f"days of the log are missing: {END}", "[D042]", flags=flags)
    flags = ("--interval-end", "2026-02-01")
    refused(tmp_path, own, 99, "the log begins on 2026-03-01", flags=flags)


def emptied(own, days):
    for day in days:
        change(own / f"delivery/2026-03-{day:02d}.parquet", lambda table: table.slice(0, 0))


def test_days_without_rows_are_counted_until_all_creatives_would_look_stopped(tmp_path, own):
    emptied(own, (7, 8))
    assert ingested(tmp_path / "two", own)[0]["days_without_rows"] == 2
    emptied(own, (9,))
    text = "no row on 3 days from 2026-03-07 on; after 3 days without delivery"
    refused(tmp_path / "three", own, 3, "delivery log: " + text, "silent_days", "[D042]")

    def patient(p):
        p["creatives"]["silent_days"] = 4

    assert ingested(tmp_path / "four", own, pipeline=patient)[0]["days_without_rows"] == 3


def test_a_log_whose_last_days_have_no_rows_makes_nobody_dead(tmp_path, own):
    emptied(own, (14, 15, 16))
    refused(tmp_path, own, 3, "no row on 3 days from 2026-03-14 on", "[D042]")


def test_validate_finds_what_ingest_finds(tmp_path, own):
    change(own / DAY, set_typed("clicks", 7, -1))
    change(own / "impressions/2026-03-12.parquet", set_value("is_click", 7, 2))
    texts = (f"{DAY}: column 'clicks'", "impressions/2026-03-12.parquet: column 'is_click'")
    refused(tmp_path, own, 3, *texts, verb="validate")


def test_good_logs_validate_and_nothing_is_published(tmp_path, own):
    refused(tmp_path, own, 0, "No problems. Rows: train ", verb="validate")


def test_a_log_may_be_csv(tmp_path, own, logs):
    for path in sorted((own / "delivery").glob("*.parquet")):
        pa.csv.write_csv(pq.read_table(path), path.with_suffix(".csv"))

    def as_csv(p):
        p["creatives"]["delivery"] = {"path": "delivery/{date}.csv", "format": "csv"}

    expected = ingested(tmp_path / "parquet", logs)
    found = ingested(tmp_path / "csv", own, pipeline=as_csv)
    assert found[0] == expected[0]
    assert found[1].equals(expected[1]) and found[2].equals(expected[2])


# Rows that cannot be learned from.


def test_a_log_without_any_stop(tmp_path, own):
    all_days(own, lambda t, day: set_column(t, "stopped", pa.array([False] * t.num_rows)))
    refused(tmp_path, own, 3, "train rows: none of", "all are censored", "stop_source", "[D011]")


def test_a_test_window_as_long_as_the_log(tmp_path, own):
    long = edit_creatives(test="16d")
    refused(
        tmp_path, own, 3, "train rows: there are none", "creatives.test", "[D041]", pipeline=long
    )


def test_a_log_without_delivery(tmp_path, own):
    zero = ("impressions", "clicks", "conversions")

    def idle(table, day):
        for name in zero:
            table = set_column(table, name, pa.array([0] * table.num_rows))
        return table

    all_days(own, idle)
    refused(tmp_path, own, 3, "train rows: there are none", "[D041]")


@pytest.mark.parametrize(
    ("change_label", "texts"),
    [
        ({"entry": "exit", "exit": "entry"}, ("'entry'", "rows end before they are at risk")),
        ({"entry": "conversions"}, ("'conversions'", "hold no day of age (first 0 at row")),
        ({"event": "conversions"}, ("'conversions'", "rows hold no event (first")),
        (
            {"cause": "campaign"},
            ("'campaign'", "rows end for another cause than cut_out, wear_out"),
        ),
        ({"weight": "censored_by"}, ("'censored_by'", "has type string")),
    ],
)
def test_a_label_that_reads_the_wrong_columns(tmp_path, own, change_label, texts):
    path = write_ads_pipeline(
        tmp_path, own, None, lambda s: s["sources"]["creatives"]["survival"].update(change_label)
    )
    result = invoke("ingest", path, "--quiet")
    assert result.exit_code == 3, result.output
    for text in ("rows.parquet: column ", *texts, "Nothing was published. [D0"):
        assert text in result.output
    assert [p.parent.parent.name for p in published(tmp_path)] == ["landmarks"]


# Files of the product.


@pytest.mark.parametrize(
    ("pipeline", "spec", "texts"),
    [
        (
            edit_creatives(landmarks=[1, 7, 3]),
            None,
            ("creatives.landmarks: landmarks [1, 7, 3] do not increase", "[P017]"),
        ),
        (
            lambda p: p["model"]["hazard"].update(edges=[1, 5, 3]),
            None,
            ("model.hazard.edges: edges [1, 5, 3] do not increase", "[P020]"),
        ),
        (
            None,
            lambda s: s["sources"]["creatives"]["survival"].update(horizons=[7, 3]),
            ("survival.horizons: horizons [7, 3] do not increase", "[S031]"),
        ),
        (
            None,
            lambda s: s["sources"]["creatives"]["survival"].update(causes=["cut_out", "tired"]),
            ("creatives.source: stops in a delivery log are", "knows no wear_out", "[P017]"),
        ),
        (edit_creatives(silent_days=0), None, ("creatives.silent_days", "expected more than 0")),
        (
            edit_creatives(delivery={"path": "../delivery/{date}.parquet"}),
            None,
            ("'../delivery/{date}.parquet' is not below data.root", "[P011]"),
        ),
    ],
)
def test_a_block_that_cannot_be(tmp_path, logs, pipeline, spec, texts):
    refused(tmp_path, logs, 2, *texts, pipeline=pipeline, spec=spec)
