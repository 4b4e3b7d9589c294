"""The commit protocol under faults: a reader sees nothing or all; a rerun gives the same bytes."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_mtl.artifacts import commit
from recsys_mtl.artifacts.commit import atomic_write, read_table
from recsys_mtl.artifacts.manifest import MANIFEST, is_published, open_artifact
from recsys_mtl.artifacts.receipts import committed
from recsys_mtl.errors import IntegrityError

from . import publication
from .publication import CALLS, FILES, inject, publish_shard

POINTS = [(n, side) for n in range(CALLS) for side in ("before", "half", "after")]
SEED = 20_260_301


class PulledPlugError(Exception):
    pass


def pull_plug():
    raise PulledPlugError


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed") / "stage"
    publish_shard(directory)
    return contents(directory)


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def assert_nothing_or_all(directory, undisturbed):
    if is_published(directory):
        open_artifact(directory)
        seen = contents(directory)
        assert {name: seen[name] for name in undisturbed} == undisturbed
    else:
        with pytest.raises(IntegrityError, match="not finished"):
            open_artifact(directory)


def test_the_publication_under_test_makes_every_protocol_call(tmp_path, monkeypatch):
    """Otherwise a point past the end would test nothing."""
    inject(CALLS - 1, "before", pull_plug, monkeypatch.setattr)
    with pytest.raises(PulledPlugError):
        publish_shard(tmp_path / "last")
    monkeypatch.undo()
    inject(CALLS, "before", pull_plug, monkeypatch.setattr)
    publish_shard(tmp_path / "none")


@pytest.mark.parametrize(("point", "side"), POINTS)
def test_a_fault_at_any_call_shows_nothing_or_all(tmp_path, monkeypatch, undisturbed, point, side):
    directory = tmp_path / "stage"
    inject(point, side, pull_plug, monkeypatch.setattr)
    with pytest.raises(PulledPlugError):
        publish_shard(directory)
    monkeypatch.undo()
    assert_nothing_or_all(directory, undisturbed)
    publish_shard(directory)
    assert contents(directory) == undisturbed


@pytest.mark.parametrize("point", range(4))
def test_a_fault_while_replacing_shows_the_old_or_the_new_file(tmp_path, monkeypatch, point):
    path = tmp_path / "CURRENT.json"
    atomic_write(path, b"old")
    inject(point, "half", pull_plug, monkeypatch.setattr)
    with pytest.raises(PulledPlugError):
        atomic_write(path, b"new and longer")
    assert path.read_bytes() == (b"new and longer" if point == 3 else b"old")


def kill_and_rerun(directory, undisturbed, point, side):
    command = [sys.executable, publication.__file__, str(directory), str(point), side]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_nothing_or_all(directory, undisturbed)
    publish_shard(directory)
    assert contents(directory) == undisturbed


@pytest.mark.parametrize(("point", "side"), random.Random(SEED).sample(POINTS, 3))
def test_sigkill_at_a_seeded_call_shows_nothing_or_all(tmp_path, undisturbed, point, side):
    kill_and_rerun(tmp_path / "stage", undisturbed, point, side)


@pytest.mark.drill
@pytest.mark.parametrize(("point", "side"), POINTS)
def test_sigkill_at_any_call_shows_nothing_or_all(tmp_path, undisturbed, point, side):
    kill_and_rerun(tmp_path / "stage", undisturbed, point, side)


def positions(data, count=50):
    draw = random.Random(SEED)
    return [(draw.randrange(len(data)), 1 << draw.randrange(8)) for _ in range(count)]


def flipped(data, position, bit):
    changed = bytearray(data)
    changed[position] ^= bit
    return bytes(changed)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_every_flipped_bit_is_found_by_the_reader(tmp_path, undisturbed, name):
    directory = tmp_path / "stage"
    publish_shard(directory)
    for position, bit in positions(undisturbed[name]):
        (directory / name).write_bytes(flipped(undisturbed[name], position, bit))
        with pytest.raises(IntegrityError):
            open_artifact(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_data_or_receipt_makes_the_shard_uncommitted(tmp_path, undisturbed, name):
    directory = tmp_path / "stage"
    publish_shard(directory)
    assert committed(directory, 0, 1) is not None
    for position, bit in positions(undisturbed[name]):
        (directory / name).write_bytes(flipped(undisturbed[name], position, bit))
        assert committed(directory, 0, 1) is None


def test_no_flipped_bit_in_the_pages_changes_a_value_even_without_sha256(tmp_path, undisturbed):
    """Page checksums alone: a reader raises, or the flip was in a byte that carries no value."""
    directory = tmp_path / "stage"
    publish_shard(directory)
    path = directory / "part-00000-of-00001.parquet"
    data, expected, raised = path.read_bytes(), read_table(path), 0
    with pa.parquet.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        end_of_pages = max(
            c.data_page_offset + c.total_compressed_size
            for c in map(group.column, range(group.num_columns))
        )
    for position, bit in positions(data[: min(end_of_pages, len(data))]):
        path.write_bytes(flipped(data, position, bit))
        try:
            assert read_table(path).equals(expected)
        except IntegrityError:
            raised += 1
    assert raised >= 45


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_truncation_is_found_by_the_reader(tmp_path, undisturbed, name, share):
    directory = tmp_path / "stage"
    publish_shard(directory)
    data = undisturbed[name]
    (directory / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(IntegrityError):
        open_artifact(directory, verify=False)


def test_a_full_disk_publishes_nothing_and_the_rerun_is_the_undisturbed_one(
    tmp_path, monkeypatch, undisturbed
):
    def full(file, data):
        raise OSError(28, "No space left on device")

    directory: Path = tmp_path / "stage"
    monkeypatch.setattr(commit, "_write", full)
    with pytest.raises(commit.TransientError, match="the disk is full"):
        publish_shard(directory)
    monkeypatch.undo()
    assert not is_published(directory)
    publish_shard(directory)
    assert contents(directory) == undisturbed
