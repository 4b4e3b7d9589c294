"""Every kind of bad input ends with its exit code, names the place and the way out, and leaves
nothing that a reader could take for a result."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from recsys_mtl.cli.main import app
from tests.conftest import write_pipeline

DAY = "impressions/2026-03-02.parquet"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def published(folder: Path) -> list[Path]:
    return list((folder / "out").rglob("MANIFEST.json"))


def refused(folder, feed, code, *texts, spec=None, pipeline=None, verb="ingest"):
    path = write_pipeline(folder, feed, pipeline, spec)
    result = invoke(verb, path, "--quiet")
    assert result.exit_code == code, result.output
    for text in texts:
        assert text in result.output
    assert published(folder) == []


@pytest.fixture
def own_feed(tmp_path, feed):
    """A copy of the logs that a test may break."""
    copy = tmp_path / "feed"
    shutil.copytree(feed, copy)
    return copy


def change(path, edit):
    table = pq.read_table(path)
    pq.write_table(edit(table), path)


def set_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def set_value(name, row, value):
    def edit(table):
        values = table[name].to_pylist()
        values[row] = value
        return set_column(table, name, pa.array(values))

    return edit


def test_missing_column(tmp_path, own_feed):
    change(own_feed / DAY, lambda t: t.rename_columns({"video_id": "vidio_id"}))
    texts = ("2026-03-02.parquet: column 'video_id' is missing, did you mean 'vidio_id'?", "[D001]")
    refused(tmp_path, own_feed, 3, *texts, "Nothing was published")


def test_wrong_type(tmp_path, own_feed):
    change(own_feed / DAY, lambda t: set_column(t, "user_id", pa.array([0.5] * t.num_rows)))
    refused(tmp_path, own_feed, 3, "2026-03-02.parquet", "column 'user_id'")


def test_label_outside_zero_and_one(tmp_path, own_feed):
    change(own_feed / DAY, set_value("is_click", 7, 2))
    refused(tmp_path, own_feed, 3, "2026-03-02.parquet: column 'is_click'", "first 2 at row 7")


def test_child_without_its_parent(tmp_path, own_feed):
    def edit(table):
        row = table["is_click"].to_pylist().index(0)
        return set_value("is_purchase", row, 1)(table)

    change(own_feed / DAY, edit)
    refused(tmp_path, own_feed, 3, "'is_purchase'", "1 where parent 'click' is 0", "[D008]")


def test_duplicate_row_id(tmp_path, own_feed):
    change(own_feed / DAY, set_value("impression_id", 3, 5))
    refused(tmp_path, own_feed, 3, "2026-03-02.parquet: column 'impression_id': 1 row ids repeat")


def test_truncated_parquet(tmp_path, own_feed):
    data = (own_feed / DAY).read_bytes()
    (own_feed / DAY).write_bytes(data[: len(data) // 2])
    refused(tmp_path, own_feed, 3, "2026-03-02.parquet", "[D020]")


def test_empty_file(tmp_path, own_feed):
    (own_feed / DAY).write_bytes(b"")
    refused(tmp_path, own_feed, 3, "2026-03-02.parquet")


def test_empty_window(tmp_path, feed):
    path = write_pipeline(tmp_path, feed)
    result = invoke("ingest", path, "--interval-end", "2025-01-01", "--quiet")
    assert result.exit_code == 99
    assert "no partition from" in result.output
    assert published(tmp_path) == []


def test_missing_day(tmp_path, own_feed):
    (own_feed / DAY).unlink()
    refused(tmp_path, own_feed, 3, "days of the window are missing: 2026-03-02", "[D042]")


def test_unknown_yaml_key(tmp_path, feed):
    def misspell(p):
        p["training"]["epoch"] = 3

    refused(
        tmp_path,
        feed,
        2,
        "training.epoch: unknown key 'epoch', did you mean 'epochs'?",
        pipeline=misspell,
    )


def test_table_never_used(tmp_path, feed):
    def add(s):
        s["tables"]["idle"] = {"dim": 8, "ids": {"kind": "range", "size": 3}}

    refused(tmp_path, feed, 2, "tables.idle", "never used", "[S011]", spec=add)


def test_infinite_number(tmp_path, own_feed):
    change(own_feed / "users.parquet", set_value("age", 0, np.inf))
    refused(tmp_path, own_feed, 3, "column 'users.age'", "infinity", "[D052]")


def test_nan_is_missing_within_the_allowed_rate(tmp_path, own_feed):
    change(own_feed / "users.parquet", set_value("age", 0, np.nan))
    path = write_pipeline(tmp_path, own_feed)
    assert invoke("ingest", path, "--quiet").exit_code == 0


def test_nulls_beyond_the_allowed_rate(tmp_path, own_feed):
    change(
        own_feed / "users.parquet",
        lambda t: set_column(t, "age", pa.array([None] * t.num_rows, pa.float64())),
    )
    texts = ("users.age", "missing in 100.0% of train rows", "max_null_rate")
    refused(tmp_path, own_feed, 3, *texts)


def test_side_table_with_two_rows_per_key(tmp_path, own_feed):
    change(own_feed / "users.parquet", lambda t: pa.concat_tables([t, t.slice(0, 2)]))
    refused(tmp_path, own_feed, 3, "users.parquet", "repeats 2 keys", "[D007]")


def add_history(table, offset_us):
    """Pre-joined histories whose only event is at the row's time plus an offset."""
    time = table["time"].cast(pa.int64()).to_numpy() + offset_us
    ids = [[int(v)] for v in table["video_id"].to_pylist()]
    times = pa.array([[int(t)] for t in time], pa.list_(pa.int64()))
    return table.append_column("hist", pa.array(ids)).append_column("hist_time", times)


def prejoined(spec):
    field = {"name": "video", "column": "hist", "table": "video", "target": "video_id"}
    spec["sequences"] = [
        {
            "name": "clicks",
            "behaviour": "click",
            "max_len": 5,
            "time": "hist_time",
            "cutoff": "1s",
            "fields": [field],
        }
    ]
    spec["sources"]["impressions"].pop("events")


def without_events(p):
    p["data"].pop("events")


@pytest.mark.parametrize(("offset_us", "code"), [(0, 3), (-1_000_000, 3), (-1_000_001, 0)])
def test_sequence_event_at_or_after_the_row_minus_the_cutoff(tmp_path, own_feed, offset_us, code):
    for path in (own_feed / "impressions").glob("*.parquet"):
        change(path, lambda t: add_history(t, offset_us))
    path = write_pipeline(tmp_path, own_feed, without_events, prejoined)
    result = invoke("ingest", path, "--quiet")
    assert result.exit_code == code, result.output
    if code:
        assert "at or after their row's time minus the cutoff" in result.output
        assert "[D004]" in result.output
        assert published(tmp_path) == []


def test_output_that_cannot_be_written(tmp_path, feed):
    (tmp_path / "file").write_text("not a folder")
    path = write_pipeline(tmp_path, feed, lambda p: p.update(home=str(tmp_path / "file" / "out")))
    result = invoke("ingest", path, "--quiet")
    assert result.exit_code == 2, result.output
    assert str(tmp_path / "file") in result.output


def test_all_problems_are_reported_at_once(tmp_path, own_feed):
    change(own_feed / DAY, set_value("is_click", 7, 2))
    change(own_feed / "impressions/2026-03-04.parquet", set_value("hour", 3, None))
    change(own_feed / "impressions/2026-03-05.parquet", set_value("is_like", 7, 9))
    texts = ("2026-03-02.parquet: column 'is_click'", "2026-03-05.parquet: column 'is_like'")
    refused(tmp_path, own_feed, 3, *texts)


def test_validate_reports_the_same_and_publishes_nothing(tmp_path, own_feed):
    change(own_feed / DAY, set_value("is_click", 7, 2))
    refused(tmp_path, own_feed, 3, "column 'is_click'", verb="validate")


def test_scoring_without_a_champion_is_nothing_to_do(tmp_path, feed):
    result = invoke("score", write_pipeline(tmp_path, feed), "--quiet")
    assert result.exit_code == 99
    assert "--first-champion" in result.output
