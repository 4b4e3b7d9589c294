import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.plan import make_plan, verify_plan
from recsys_mtl.errors import ConfigError, DataError


def write(path, first, rows, group_rows=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": range(first, first + rows)}), path, row_group_size=group_rows)
    return path


@pytest.fixture
def logs(tmp_path):
    """Two files of 35 and 20 rows in row groups of 10."""
    root = tmp_path / "data"
    return root, [write(root / "b.parquet", 35, 20), write(root / "a" / "1.parquet", 0, 35)]


def test_shards_are_runs_of_row_groups_of_the_sorted_files(logs):
    root, files = logs
    plan = make_plan(root, files, shard_rows=25)
    assert [(f.path, f.rows) for f in plan.files] == [("a/1.parquet", 35), ("b.parquet", 20)]
    assert [(t.index, t.path.name, t.row_groups, t.first_row, t.rows) for t in plan.tasks] == [
        (0, "1.parquet", (0, 1), 0, 20),
        (1, "1.parquet", (2, 3), 20, 15),
        (2, "b.parquet", (0, 1), 35, 20),
    ]
    assert plan.rows == 55


def test_groups_that_fill_a_shard_exactly_stay_together(logs):
    root, files = logs
    tasks = make_plan(root, files, shard_rows=20).tasks
    assert [t.row_groups for t in tasks] == [(0, 1), (2, 3), (0, 1)]


@pytest.mark.parametrize("shard_rows", [1, 10, 15, 31, 1000])
def test_every_row_is_in_exactly_one_shard(logs, shard_rows):
    root, files = logs
    plan = make_plan(root, files, shard_rows)
    read = [
        pq.ParquetFile(t.path).read_row_groups(list(t.row_groups))["x"].to_pylist()
        for t in plan.tasks
    ]
    assert [x for rows in read for x in rows] == list(range(55))
    assert [rows[0] for rows in read] == [t.first_row for t in plan.tasks]


def test_fingerprint_ignores_where_the_root_is_and_how_files_were_listed(logs, tmp_path):
    root, files = logs
    other = tmp_path / "elsewhere"
    root.rename(other)
    moved = [other / "a" / "1.parquet", other / "b.parquet"]
    plan = make_plan(other, moved, 25)
    (other).rename(root)
    assert make_plan(root, files, 99).fp == plan.fp


def test_fingerprint_changes_with_bytes_and_with_names(logs):
    root, files = logs
    before = make_plan(root, files, 25).fp
    write(files[0], 36, 20)
    changed = make_plan(root, files, 25).fp
    renamed = files[0].rename(root / "c.parquet")
    assert len({before, changed, make_plan(root, [renamed, files[1]], 25).fp}) == 3


def test_a_csv_file_is_one_shard_whatever_its_values(tmp_path):
    (tmp_path / "1.csv").write_text('x,"y, z"\n' + "1,2\n" * 5)
    (tmp_path / "2.csv").write_text("x,y\n" + "".join(f"{v},1\n" for v in [1] * 9 + ["text", ""]))
    plan = make_plan(tmp_path, [tmp_path / "2.csv", tmp_path / "1.csv"], 3, "csv")
    assert [(t.path.name, t.row_groups, t.first_row, t.rows) for t in plan.tasks] == [
        ("1.csv", (), 0, 5),
        ("2.csv", (), 5, 11),
    ]


def test_a_file_without_rows_is_listed_and_makes_no_shard(logs):
    root, files = logs
    none = write(root / "0.parquet", 0, 0)
    plan = make_plan(root, [*files, none], 25)
    assert (plan.files[0].path, plan.files[0].rows) == ("0.parquet", 0)
    assert [t.path.name for t in plan.tasks] == ["1.parquet", "1.parquet", "b.parquet"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_parquet_file_is_named(logs, share):
    root, files = logs
    data = files[0].read_bytes()
    files[0].write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as parquet.*D020") as caught:
        make_plan(root, files, 25)
    assert caught.value.exit_code == 3


def test_all_bad_files_are_named_at_once(logs):
    root, files = logs
    (root / "empty.parquet").touch()
    (root / "text.parquet").write_text("hello, this is no Parquet")
    absent = root / "absent.parquet"
    more = [root / "empty.parquet", root / "text.parquet", absent]
    with pytest.raises(DataError) as caught:
        make_plan(root, [*files, *more], 25)
    found = {p.where.rsplit("/", 1)[1]: p.code for p in caught.value.problems}
    assert found == {"empty.parquet": "D014", "text.parquet": "D020", "absent.parquet": "D024"}


def test_a_ragged_csv_file_is_named(tmp_path):
    (tmp_path / "1.csv").write_text("x,y\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"1\.csv: cannot be read as csv"):
        make_plan(tmp_path, [tmp_path / "1.csv"], 3, "csv")


def test_the_same_file_under_two_names_is_refused(logs):
    root, files = logs
    (root / "copy.parquet").write_bytes(files[0].read_bytes())
    with pytest.raises(DataError, match=r"copy\.parquet: holds the same bytes as b\.parquet"):
        make_plan(root, [*files, root / "copy.parquet"], 25)


def test_equal_files_without_rows_are_no_copies(logs):
    root, files = logs
    empty = [write(root / name, 0, 0) for name in ("0.parquet", "1.parquet")]
    assert make_plan(root, [*files, *empty], 25).rows == 55


def test_no_rows_and_no_files_are_an_empty_window(tmp_path):
    none = write(tmp_path / "0.parquet", 0, 0)
    with pytest.raises(DataError, match=r"0\.parquet: the window is empty: 1 files hold no row"):
        make_plan(tmp_path, [none], 25)
    with pytest.raises(
        DataError, match=r"the window is empty: no file was found.*another interval"
    ):
        make_plan(tmp_path, [], 25)


def test_a_file_outside_the_root_is_a_config_error(logs):
    root, files = logs
    for outside in (files[0].parent.parent / "x.parquet", root / ".." / "x.parquet"):
        with pytest.raises(ConfigError, match=r"is not below data\.root"):
            make_plan(root, [outside], 25)


def test_input_that_changes_during_the_run_is_noticed(logs):
    root, files = logs
    plan = make_plan(root, files, 25)
    verify_plan(plan)
    write(files[0], 36, 20)
    with pytest.raises(DataError, match=r"b\.parquet: the file changed while"):
        verify_plan(plan)


def test_tasks_are_frozen(logs):
    root, files = logs
    task = make_plan(root, files, 25).tasks[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.rows = 0
