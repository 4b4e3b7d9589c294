"""Raw files: only the named columns, and what is wrong with its file and row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.raw import first_row_of, locate, located, read_rows


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.parquet"
    rows = pa.table({"user": range(10), "item": range(10), "wide": ["x"] * 10})
    pq.write_table(rows, path, row_group_size=4)
    return path


def test_named_columns_are_read_in_their_order(file):
    rows = read_rows(file, "parquet", (1, 2), ["item", "user"])
    assert rows.column_names == ["item", "user"]
    assert rows["item"].to_pylist() == [4, 5, 6, 7, 8, 9]
    assert [first_row_of(file, groups) for groups in [(0, 1), (1, 2), (2,), ()]] == [0, 4, 8, 0]


def test_csv_gives_the_same(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,a\n2,b\n")
    rows = read_rows(tmp_path / "a.csv", "csv", (), ["item"])
    assert rows.to_pydict() == {"item": ["a", "b"]}


def test_all_missing_columns_are_named_at_once(file):
    with pytest.raises(DataError) as caught:
        read_rows(file, "parquet", (), ["usr", "user", "price"])
    first, second = map(str, caught.value.problems)
    assert first == (
        f"{file}: column 'usr' is missing, did you mean 'user'? Deliver it, or correct the name in"
        " the feature spec. Nothing was published. [D001]"
    )
    assert "column 'price' is missing; known: item, user, wide." in second


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("user,user\n1,2\n")
    with pytest.raises(DataError, match="there are 2 columns 'user'; one was expected"):
        read_rows(tmp_path / "a.csv", "csv", (), ["user"])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_file_is_refused(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        DataError, match=r"a.parquet: cannot be read: .*Deliver the file again.*D020"
    ):
        read_rows(file, "parquet", (), ["user"])


def test_a_flipped_bit_is_found_where_the_file_has_checksums(tmp_path):
    path = tmp_path / "a.parquet"
    rows = pa.table({"user": np.arange(1000)})
    pq.write_table(rows, path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot be read: .*D020"):
        read_rows(path, "parquet")


def test_located_gives_the_file_and_the_row_in_it(tmp_path):
    path = tmp_path / "f.parquet"
    with pytest.raises(DataError) as caught, located(path, np.array([10, 12, 2500])):
        raise DataError(
            Problem("column 'x'", "2 rows are odd (first at row {row})", "Fix.", "D1", 2)
        )
    text = (
        f"{path}: column 'x': 2 rows are odd (first at row 2,500). Fix. Nothing was published. [D1]"
    )
    assert str(caught.value) == text
    assert locate(caught.value.problems[0], path) == caught.value.problems[0]
