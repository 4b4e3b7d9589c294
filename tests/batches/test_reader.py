from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_mtl.artifacts import commit
from recsys_mtl.artifacts.manifest import Manifest, publish
from recsys_mtl.batches import reader
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.errors import IntegrityError

from .encoded import assert_equal_batches, make_layout, make_rows

NUM_ROWS = 200
SHUFFLE = Shuffle(seed=3, epoch=0, buffer_rows=60)


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """200 rows in 4 shards with row groups of 16; a sample beside them is not a shard."""
    monkeypatch.setattr(commit, "ROW_GROUP_ROWS", 16)
    rows = make_rows(NUM_ROWS)
    files = [
        commit.write_table(tmp_path / f"part-{i:05d}-of-00004.parquet", rows.slice(50 * i, 50))
        for i in range(4)
    ]
    files.append(commit.write_table(tmp_path / "sample.parquet", rows.slice(0, 5)))
    return publish(tmp_path, files, {})


@pytest.fixture
def shards(artifact: Manifest) -> EncodedShards:
    return EncodedShards(artifact, make_layout())


def ids(batches) -> list[int]:
    return [i for batch in batches for i in batch.row_id.to_pylist()]


def expected_ids(code: int) -> list[int]:
    return np.flatnonzero(make_rows(NUM_ROWS).column("key__split").to_numpy() == code).tolist()


@pytest.mark.parametrize(("split", "code"), [("train", 0), ("valid", 1), ("test", 2)])
def test_each_row_of_a_split_comes_exactly_once(shards, split, code) -> None:
    expected = expected_ids(code)
    assert shards.rows(split) == len(expected)
    assert ids(shards.batches(split, 7)) == expected, "file order without shuffle"
    shuffled = ids(shards.batches(split, 7, shuffle=SHUFFLE))
    assert sorted(shuffled) == expected != shuffled


def test_a_batch_holds_the_values_of_its_rows(shards) -> None:
    rows, layout = make_rows(NUM_ROWS), make_layout()
    for batch in shards.batches("train", 7, shuffle=SHUFFLE):
        assert_equal_batches(batch, reader.to_batch(rows.take(batch.row_id), layout))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_labels_are_those_of_the_batches_in_file_order(shards, split) -> None:
    found = [torch.cat(parts) for parts in zip(*shards.labels(split), strict=True)]
    batches = list(shards.batches(split, 7))
    for name, part in zip(("labels", "masks"), found, strict=True):
        assert torch.equal(part, torch.cat([getattr(batch, name) for batch in batches]))


def test_only_the_last_batch_is_smaller(shards) -> None:
    rows = shards.rows("train")
    sizes = [batch.num_rows for batch in shards.batches("train", rows - 1, shuffle=SHUFFLE)]
    assert sizes == [rows - 1, 1]
    sizes = [batch.num_rows for batch in shards.batches("train", 7, shuffle=SHUFFLE)]
    assert sizes == [7] * (rows // 7) + [rows % 7]
    assert shards.num_batches("train", 7) == len(sizes)


def test_an_epoch_depends_on_seed_and_epoch_only(shards, artifact) -> None:
    first = ids(shards.batches("train", 7, shuffle=SHUFFLE))
    again = EncodedShards(artifact, make_layout())
    assert ids(again.batches("train", 9, shuffle=SHUFFLE)) == first
    assert ids(shards.batches("train", 7, shuffle=Shuffle(3, 1, 60))) != first
    assert ids(shards.batches("train", 7, shuffle=Shuffle(4, 0, 60))) != first


@pytest.mark.parametrize("shuffle", [None, SHUFFLE])
@pytest.mark.parametrize("start", [0, 1, 4, 7, 8, 100])
def test_a_resumed_epoch_gives_the_remaining_batches(shards, shuffle, start) -> None:
    whole = list(shards.batches("train", 7, shuffle=shuffle))
    rest = list(shards.batches("train", 7, shuffle=shuffle, start_batch=start))
    assert len(rest) == max(0, len(whole) - start)
    for a, b in zip(whole[start:], rest, strict=True):
        assert_equal_batches(a, b)


def test_buffers_before_the_start_are_not_read(shards, monkeypatch) -> None:
    assert shards.rows("train") > 40
    read: list[int] = []
    load = EncodedShards._load
    monkeypatch.setattr(
        EncodedShards, "_load", lambda self, b: read.append(b.number) or load(self, b)
    )
    list(shards.batches("train", 20, shuffle=Shuffle(3, 0, 20), start_batch=2))
    assert read == list(range(read[0], read[-1] + 1))
    assert read[0] > 0


def test_rows_of_several_shards_meet_in_a_batch(shards) -> None:
    batch = next(shards.batches("train", 10, shuffle=SHUFFLE))
    assert len({i // 50 for i in batch.row_id.to_pylist()}) > 1


@pytest.mark.parametrize("position", range(5, 95, 10))
def test_a_damaged_shard_is_named(shards, artifact, position) -> None:
    """Compression alone lets most flipped bits through; page checksums do not."""
    path = artifact.dir / "part-00001-of-00004.parquet"
    data = bytearray(path.read_bytes())
    pages = len(data) - int.from_bytes(data[-8:-4], "little")
    data[pages * position // 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="part-00001-of-00004"):
        list(shards.batches("train", 7))


def test_a_shard_without_a_column_is_named(artifact) -> None:
    layout = make_layout()
    other = type(layout)(**{**vars(layout), "dense": ("age", "height")})
    with pytest.raises(IntegrityError, match="has no column 'height'"):
        list(EncodedShards(artifact, other).batches("train", 7))


def test_a_split_without_rows_has_no_batches(tmp_path: Path) -> None:
    rows = make_rows(5)
    rows = rows.set_column(
        rows.schema.names.index("key__split"), "key__split", pa.array([1] * 5, pa.int8())
    )
    entry = commit.write_table(tmp_path / "part-00000-of-00001.parquet", rows)
    shards = EncodedShards(publish(tmp_path, [entry], {}), make_layout())
    assert list(shards.batches("train", 4, shuffle=SHUFFLE)) == []
    assert shards.rows("train") == shards.num_batches("train", 4) == 0
