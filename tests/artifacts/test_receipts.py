import pytest

from recsys_mtl.artifacts.commit import atomic_write, entry_of
from recsys_mtl.artifacts.receipts import (
    Receipt,
    committed,
    part_name,
    read_receipt,
    write_receipt,
)
from recsys_mtl.errors import IntegrityError


def commit_shard(directory, index=12, count=60):
    path = directory / part_name(index, count, ".parquet")
    atomic_write(path, b"rows")
    files = (entry_of(path, directory, 3),)
    receipt = Receipt(index, count, "log/1.parquet", 4, 3, 1, files, {"oov": 2, "rate": 0.5})
    return receipt, write_receipt(directory, receipt)


def test_part_names_sort_in_shard_order():
    assert part_name(12, 60, ".json") == "part-00012-of-00060.json"
    names = [part_name(i, 12_000) for i in (2, 10, 999, 11_999)]
    assert sorted(names) == names


def test_a_committed_shard_gives_its_receipt_back(tmp_path):
    receipt, entry = commit_shard(tmp_path)
    assert committed(tmp_path, 12, 60) == receipt
    assert entry == entry_of(tmp_path / "part-00012-of-00060.json", tmp_path)


def test_a_shard_of_another_index_or_count_is_not_committed(tmp_path):
    commit_shard(tmp_path)
    assert committed(tmp_path, 11, 60) is None
    assert committed(tmp_path, 12, 61) is None


def test_a_shard_whose_file_changed_or_went_is_not_committed(tmp_path):
    commit_shard(tmp_path)
    path = tmp_path / "part-00012-of-00060.parquet"
    path.write_bytes(b"rowz")
    assert committed(tmp_path, 12, 60) is None
    path.unlink()
    assert committed(tmp_path, 12, 60) is None
    assert read_receipt(tmp_path, 12, 60) is not None


def test_equal_shards_have_equal_receipt_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert commit_shard(tmp_path / "a") == commit_shard(tmp_path / "b")


def test_rows_that_do_not_add_up_are_refused():
    with pytest.raises(IntegrityError, match=r"part-00000-of-00002: 10 rows came in, but 8"):
        Receipt(0, 2, "f", rows_in=10, rows_out=8, rows_quarantined=1, files=())
