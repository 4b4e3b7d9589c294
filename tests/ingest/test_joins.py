"""Side tables: found by key, null where there is none, refused where a key is not unique."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.joins import SideFiles, join_side


def side(tmp_path, *tables, name="users"):
    paths = []
    for i, table in enumerate(tables):
        paths.append(tmp_path / f"{name}-{i}.parquet")
        pq.write_table(pa.table(table), paths[-1])
    return SideFiles.of(tuple(paths), "parquet")


def joined(files, keys, columns=("city",)):
    return join_side(pa.table({"user": keys}), "users", "user", files, columns)


def test_a_missing_match_is_null_and_counted(tmp_path):
    files = side(tmp_path, {"user": [3, 1], "city": ["rome", "oslo"], "unread": [0, 0]})
    rows, unmatched = joined(files, [1, 2, 3, None, 1])
    assert rows["users.city"].to_pylist() == ["oslo", None, "rome", None, "oslo"]
    assert rows.column_names == ["user", "users.city"]
    assert unmatched == 2


def test_files_of_a_side_are_one_table(tmp_path):
    files = side(tmp_path, {"user": [1], "city": ["a"]}, {"user": [2], "city": ["b"]})
    assert joined(files, [2, 1])[0]["users.city"].to_pylist() == ["b", "a"]


def test_null_matches_nothing_not_even_null(tmp_path):
    files = side(tmp_path, {"user": [None, 1, None], "city": ["nobody", "oslo", "no one"]})
    rows, unmatched = joined(files, pa.array([None, 1], pa.int64()))
    assert (rows["users.city"].to_pylist(), unmatched) == ([None, "oslo"], 1)


def test_integer_width_and_dictionaries_do_not_matter(tmp_path):
    files = side(tmp_path, {"user": pa.array([1, 2], pa.int8()), "city": ["a", "b"]})
    assert joined(files, pa.array([2], pa.uint32()))[0]["users.city"].to_pylist() == ["b"]
    words = {"user": pa.array(["x", "y"]).dictionary_encode(), "city": ["a", "b"]}
    files = side(tmp_path, words, name="words")
    assert joined(files, pa.array(["y"]))[0]["users.city"].to_pylist() == ["b"]


def test_repeated_keys_are_refused(tmp_path):
    files = side(tmp_path, {"user": [1, 2, 1, 1], "city": ["a", "b", "c", "d"]})
    with pytest.raises(DataError, match=r"users-0.parquet: column 'user': repeats 2 keys.*D007"):
        joined(files, [1])


def test_keys_of_another_type_are_refused(tmp_path):
    files = side(tmp_path, {"user": ["1"], "city": ["a"]})
    with pytest.raises(DataError, match=r"'user': holds int64, in side table 'users' string.*D033"):
        joined(files, [1])


def test_columns_missing_from_a_side_are_all_named(tmp_path):
    files = side(tmp_path, {"user": [1], "city": ["a"]})
    with pytest.raises(DataError) as caught:
        joined(files, [1], ("citi", "age"))
    assert ["'citi' is missing, did you mean 'city'?" in str(p) for p in caught.value.problems] == [
        True,
        False,
    ]
    assert len(caught.value.problems) == 2


def test_files_that_disagree_about_a_type_are_refused(tmp_path):
    files = side(tmp_path, {"user": [1], "city": ["a"]}, {"user": [2], "city": [5]})
    with pytest.raises(DataError, match=r"disagree about a column's type.*D033"):
        joined(files, [1])


def test_a_changed_file_is_read_again(tmp_path):
    files = side(tmp_path, {"user": [1], "city": ["old"]})
    assert joined(files, [1])[0]["users.city"].to_pylist() == ["old"]
    files = side(tmp_path, {"user": [1], "city": ["newer"]})
    assert joined(files, [1])[0]["users.city"].to_pylist() == ["newer"]
