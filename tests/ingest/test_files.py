"""Which files a window reads."""

import shutil

import pytest

from recsys_mtl.errors import DataError, NothingToDoError
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.spec.interval import DAY_US
from recsys_mtl.spec.load import load_pipeline
from tests.conftest import write_pipeline


def names(paths):
    return [p.stem for p in paths]


def test_without_an_interval_all_partitions_are_read(pipeline):
    files, interval = resolve_files(load_pipeline(pipeline), None)
    assert names(files.rows) == [f"2026-03-0{d}" for d in range(1, 7)]
    assert (interval.end_us - interval.start_us) == 6 * DAY_US


def test_a_window_is_counted_back_and_logs_end_with_it(tmp_path, feed):
    path = write_pipeline(tmp_path, feed, lambda p: p["data"].update(window="3d"))
    files, interval = resolve_files(load_pipeline(path), "2026-03-05T03:00:00Z")
    assert names(files.rows) == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert names(files.events["behaviour"])[-1] == "2026-03-04"
    assert interval.end_us - interval.start_us == 3 * DAY_US


def test_local_midnight_follows_the_utc_offset(tmp_path, feed):
    path = write_pipeline(tmp_path, feed, lambda p: p["data"].update(utc_offset="9h"))
    _, interval = resolve_files(load_pipeline(path), "2026-03-05")
    assert interval.end_us % DAY_US == 15 * DAY_US // 24


def test_missing_days_are_named(tmp_path, feed):
    copy = tmp_path / "feed"
    shutil.copytree(feed, copy)
    (copy / "impressions" / "2026-03-03.parquet").unlink()
    path = write_pipeline(tmp_path, copy)
    with pytest.raises(DataError, match=r"1 of 6 days of the window are missing: 2026-03-03"):
        resolve_files(load_pipeline(path), None)


def test_an_empty_window_is_nothing_to_do(pipeline):
    with pytest.raises(NothingToDoError, match="no partition from"):
        resolve_files(load_pipeline(pipeline), "2025-01-01")


def test_an_absent_folder_names_the_way_out(tmp_path, feed):
    path = write_pipeline(tmp_path, feed, lambda p: p["data"].update(root=str(tmp_path / "no")))
    with pytest.raises(DataError, match="--set data.root=FOLDER"):
        resolve_files(load_pipeline(path), None)
