import errno
import hashlib
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts import commit
from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    sha256_file,
    write_table,
    writing,
)
from recsys_mtl.errors import ConfigError, IntegrityError, TransientError


def table(rows: int = 1000) -> pa.Table:
    ids = range(rows)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "name": [f"n{i % 7}" for i in ids],
            "bag": pa.array([[i, i + 1] for i in ids], pa.list_(pa.int64())),
        }
    )


def test_atomic_write_replaces_the_whole_file_and_leaves_no_temporary(tmp_path):
    atomic_write(tmp_path / "a", b"first, longer")
    atomic_write(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_sha256_of_abc_is_the_published_vector(tmp_path):
    atomic_write(tmp_path / "a", b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == expected
    assert entry_of(tmp_path / "a", tmp_path, 1) == FileEntry("a", expected, 3, 1)


def test_writing_keeps_the_old_file_when_the_body_fails(tmp_path):
    atomic_write(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), writing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_write_table_entry_is_what_lies_on_disk(tmp_path):
    (tmp_path / "fit").mkdir()
    path = tmp_path / "fit" / "t.parquet"
    entry = write_table(path, table(), root=tmp_path)
    data = path.read_bytes()
    assert entry == FileEntry("fit/t.parquet", hashlib.sha256(data).hexdigest(), len(data), 1000)
    assert read_table(path).equals(table())


def test_write_table_bytes_do_not_depend_on_chunks(tmp_path):
    """Long columns of distinct strings are where pyarrow's pages follow the chunks."""
    whole = pa.table({"user": [f"u{i * 7919 % 10**9:013d}" for i in range(100_000)]})
    pieces = pa.concat_tables([whole.slice(at, 1500) for at in range(0, 100_000, 1500)])
    assert pieces.column(0).num_chunks == 67
    first = write_table(tmp_path / "t.parquet", whole)
    assert write_table(tmp_path / "t.parquet", pieces) == first


def test_write_table_fixes_row_groups_and_compression(tmp_path):
    write_table(tmp_path / "t.parquet", table(100_000))
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [g.num_rows for g in groups] == [65_536, 34_464]
    assert {g.column(0).compression for g in groups} == {"ZSTD"}


def test_read_table_gives_the_columns_in_the_order_asked(tmp_path):
    write_table(tmp_path / "t.parquet", table())
    assert read_table(tmp_path / "t.parquet", ["bag", "id"]).column_names == ["bag", "id"]


def test_read_table_names_the_column_that_is_missing(tmp_path):
    write_table(tmp_path / "t.parquet", table())
    with pytest.raises(IntegrityError, match=r"t\.parquet: has no column 'label'"):
        read_table(tmp_path / "t.parquet", ["id", "label"])


def test_read_table_notices_a_flipped_bit_in_a_page(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, table())
    column = pq.read_metadata(path).row_group(0).column(0)
    last_byte_of_column = column.dictionary_page_offset + column.total_compressed_size - 1
    data = bytearray(path.read_bytes())
    data[last_byte_of_column] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"t\.parquet: cannot be read"):
        read_table(path)


def test_full_disk_is_transient_names_the_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "t.parquet"
    atomic_write(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(TransientError, match=r"t\.parquet: the disk is full") as caught:
            atomic_write(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 75
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("t.parquet", b"old")]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_refused_write_is_a_config_error_that_names_the_path(tmp_path, monkeypatch, number):
    def refuse(file, data):
        raise OSError(number, "refused")

    monkeypatch.setattr(commit, "_write", refuse)
    with pytest.raises(ConfigError, match=r"out: cannot be written \(refused\)") as caught:
        atomic_write(tmp_path / "out", b"x")
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_make_dir_below_a_file_is_a_config_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ConfigError, match="cannot be written"):
            make_dir(path)


def test_make_dir_makes_parents_and_keeps_what_is_there(tmp_path):
    path = make_dir(tmp_path / "a" / "b")
    (path / "kept").touch()
    assert [p.name for p in make_dir(Path(path)).iterdir()] == ["kept"]
