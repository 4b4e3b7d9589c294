"""Which files a window reads."""

from datetime import date

import pytest

from recsys_mtl.errors import ConfigError, DataError, NothingToDoError
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.spec.interval import DAY_US

from .worlds import FIRST, load

MARCH_1 = FIRST * DAY_US


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def feed(tmp_path):
    root = tmp_path / "feed"
    days = [f"2026-03-0{d}.parquet" for d in range(1, 7)]
    touch(root, "users.parquet", *(f"rows/{d}" for d in days), *(f"log/{d}" for d in days))
    return root


def resolve(tmp_path, feed, end=None, **data):
    return resolve_files(load(tmp_path, feed, lambda p: p["data"].update(data)), end)


def names(paths):
    return [p.stem for p in paths]


def rows_in(tmp_path, feed, path, end=None, **options):
    files, interval = resolve(tmp_path, feed, end, rows={"path": path, **options})
    return [p.relative_to(feed).as_posix() for p in files.rows], interval


def test_without_an_interval_all_partitions_are_read(tmp_path, feed):
    files, interval = resolve(tmp_path, feed)
    assert names(files.rows) == [f"2026-03-0{d}" for d in range(1, 7)]
    assert (interval.start_us, interval.end_us) == (MARCH_1, MARCH_1 + 6 * DAY_US)


def test_a_window_is_counted_back_and_logs_end_with_it(tmp_path, feed):
    files, interval = resolve(tmp_path, feed, "2026-03-05T03:00:00Z", window="3d")
    assert names(files.rows) == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert names(files.events["log"]) == [f"2026-03-0{d}" for d in range(1, 5)]
    assert interval.end_us - interval.start_us == 3 * DAY_US


def test_local_midnight_follows_the_utc_offset(tmp_path, feed):
    _, interval = resolve(tmp_path, feed, "2026-03-05", utc_offset="9h")
    assert interval.end_us == MARCH_1 + 4 * DAY_US - 9 * DAY_US // 24


def test_a_day_may_have_several_files_in_a_folder(tmp_path, feed):
    touch(feed, "h/date=2026-03-01/b.parquet", "h/date=2026-03-01/a.parquet")
    touch(feed, "h/date=2026-03-02/deep/a.parquet", "h/date=2026-03-02/c.parquet")
    found, interval = rows_in(tmp_path, feed, "h/date={date}/*.parquet")
    assert found == [
        "h/date=2026-03-01/a.parquet",
        "h/date=2026-03-01/b.parquet",
        "h/date=2026-03-02/c.parquet",
    ]
    assert interval.end_us - interval.start_us == 2 * DAY_US
    assert len(rows_in(tmp_path, feed, "h/date={date}/**/*.parquet")[0]) == 4


def test_a_date_may_be_folders_or_stand_twice(tmp_path, feed):
    touch(feed, "y/2026/03/01/r.parquet", "y/2026/03/02/r.parquet", "y/2026/13/02/r.parquet")
    found, _ = rows_in(tmp_path, feed, "y/{date}/r.parquet", date_format="%Y/%m/%d")
    assert found == ["y/2026/03/01/r.parquet", "y/2026/03/02/r.parquet"]
    touch(feed, "t/20260301/20260301.parquet", "t/20260301/20260302.parquet")
    found, _ = rows_in(tmp_path, feed, "t/{date}/{date}.parquet", date_format="%Y%m%d")
    assert found == ["t/20260301/20260301.parquet"]


def test_other_spellings_hidden_files_and_folders_are_no_partitions(tmp_path, feed):
    touch(feed, "rows/2026-3-07.parquet", "rows/.2026-03-08.parquet", "rows/late.parquet")
    touch(feed, "rows/2026-03-09.parquet/inside")
    assert names(resolve(tmp_path, feed)[0].rows)[-1] == "2026-03-06"


def test_files_without_a_date_are_read_whole_and_have_no_window(tmp_path, feed):
    touch(feed, "flat/b.parquet", "flat/a.parquet", "flat/.a.parquet.tmp")
    assert rows_in(tmp_path, feed, "flat/*") == (["flat/a.parquet", "flat/b.parquet"], None)
    _, interval = rows_in(tmp_path, feed, "flat/*", end="2026-03-05")
    assert interval.end_us == MARCH_1 + 4 * DAY_US


def test_missing_days_are_named(tmp_path, feed):
    (feed / "rows/2026-03-03.parquet").unlink()
    with pytest.raises(DataError, match=r"1 of 6 days of the window are missing: 2026-03-03.*D042"):
        resolve(tmp_path, feed)
    with pytest.raises(DataError, match=r"2 of 7 days .*: 2026-03-03, 2026-03-07\."):
        resolve(tmp_path, feed, "2026-03-08")


def test_an_empty_window_is_nothing_to_do(tmp_path, feed):
    with pytest.raises(NothingToDoError, match="there are 2026-03-01 to 2026-03-06"):
        resolve(tmp_path, feed, "2025-01-01")


def test_all_absent_files_are_named_at_once(tmp_path, feed):
    (feed / "users.parquet").unlink()
    (feed / "rows/2026-03-03.parquet").unlink()
    with pytest.raises(DataError) as caught:
        resolve(tmp_path, feed, events={"log": {"path": "no/{date}.parquet"}})
    assert [p.code for p in caught.value.problems] == ["D042", "D024", "D024"]
    assert "--set data.root=FOLDER" in str(caught.value)


@pytest.mark.parametrize("path", ["/etc/{date}.parquet", "../{date}.parquet", "a/../../b"])
def test_paths_outside_the_root_are_refused(tmp_path, feed, path):
    with pytest.raises(ConfigError, match=r"is not below data.root.*P011"):
        rows_in(tmp_path, feed, path)


def test_the_fingerprint_of_sides_and_logs_follows_their_bytes(tmp_path, feed):
    before = resolve(tmp_path, feed)[0].side_fp()
    assert resolve(tmp_path, feed)[0].side_fp() == before
    (feed / "log/2026-03-01.parquet").write_bytes(b"y")
    assert resolve(tmp_path, feed)[0].side_fp() != before
    assert date(2026, 3, 1).toordinal() - date(1970, 1, 1).toordinal() == FIRST
