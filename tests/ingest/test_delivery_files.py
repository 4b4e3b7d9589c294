from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import refuse
from recsys_mtl.ingest.delivery_files import read_log
from tests.ingest.delivery_days import FIRST, log_of, on


def write(folder, log, days=None):
    """One file per day; those of days without rows are there as well."""
    daily = {}
    for i in range(days or 5):
        day = FIRST + timedelta(i)
        path = folder / f"{day}.parquet"
        pq.write_table(log.filter(pa.compute.equal(log["day"], pa.scalar(day))), path)
        daily[day] = [path]
    return daily


def test_rows_of_all_files_are_one_log_and_told_by_their_file(tmp_path):
    """Days of 2, 0, 2, 1 and 0 rows: a row belongs to no file that has none."""
    log = read_log(write(tmp_path, log_of(["d.dd.", "d.d"])), "parquet")
    assert log.first_rows.tolist() == [0, 2, 2, 4, 5]
    assert log.table["day"].to_pylist() == [on(1), on(1), on(3), on(3), on(4)]
    expected = [(1, 0), (1, 1), (3, 0), (3, 1), (4, 0)]
    for row, (day, in_file) in enumerate(expected):
        with pytest.raises(DataError) as caught, log.located():
            raise refuse("x", "bad at row {row}", "Mend it.", "D000", row)
        (problem,) = caught.value.problems
        assert problem.where == f"{tmp_path / str(on(day))}.parquet: column 'x'"
        assert problem.text == f"bad at row {in_file}"


def test_a_fault_of_the_whole_log_names_its_folder(tmp_path):
    log = read_log(write(tmp_path, log_of(["ddddd"])), "parquet")
    with pytest.raises(DataError) as caught, log.located():
        raise DataError(Problem("column 'x'", "is not there"))
    assert caught.value.problems[0].where == f"{tmp_path}: column 'x'"


def test_types_that_stand_for_another_are_read_as_it(tmp_path):
    """A file in which nothing has a value has no types of its own to disagree with."""
    log = log_of(["ddddd"], [1])
    daily = write(tmp_path, log)
    narrow = {"creative": pa.int16(), "clicks": pa.uint8(), "spend": pa.float32()}
    narrow |= {"status": pa.dictionary(pa.int8(), pa.string()), "campaign": pa.large_string()}
    for day, kinds in ((1, narrow), (2, {"launched": pa.null(), "planned_end": pa.null()})):
        table = pq.read_table(daily[on(day)][0])
        for name, kind in kinds.items():
            values = pa.nulls(1) if pa.types.is_null(kind) else table[name].cast(kind)
            table = table.set_column(table.column_names.index(name), name, values)
        pq.write_table(table, daily[on(day)][0])
    found = read_log(daily, "parquet").table
    assert found.schema.types == log.select(found.column_names).schema.types
    assert found["campaign"].equals(log["campaign"])
    assert found["launched"].to_pylist() == [on(1), None, on(1), on(1), on(1)]


def test_problems_of_all_files_are_told_at_once(tmp_path):
    daily = write(tmp_path, log_of(["ddddd"]))
    for day, lost in ((2, ["genre", "spend"]), (4, ["status"])):
        pq.write_table(pq.read_table(daily[on(day)][0]).drop_columns(lost), daily[on(day)][0])
    with pytest.raises(DataError) as caught:
        read_log(daily, "parquet")
    places = [(p.where.partition(": ")[0][-13:], p.where[-9:]) for p in caught.value.problems]
    assert places == [
        ("03-02.parquet", "n 'genre'"),
        ("03-02.parquet", "n 'spend'"),
        ("03-04.parquet", " 'status'"),
    ]


def test_ad_groups_are_ids_of_one_type_in_all_files_or_in_none(tmp_path):
    daily = write(tmp_path, log_of(["ddd"]))
    for day, group in ((1, 7), (2, "7")):
        table = pq.read_table(daily[on(day)][0])
        pq.write_table(table.append_column("ad_group", pa.array([group])), daily[on(day)][0])
    with pytest.raises(DataError, match=r"column 'ad_group': is missing, but 2026-03-01.parquet"):
        read_log(daily, "parquet")
    two = {day: daily[day] for day in (on(1), on(2))}
    with pytest.raises(DataError, match=r"column 'ad_group': holds string ids, but int ids"):
        read_log(two, "parquet")
    assert read_log({on(1): daily[on(1)]}, "parquet").table["ad_group"].to_pylist() == [7]
