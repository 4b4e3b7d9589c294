import pytest

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.pointer import write_pointer
from recsys_mtl.errors import TransientError


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path):
    left = tmp_path / f"CURRENT.json.{'0a' * 16}.tmp"
    others = [tmp_path / f"OTHER.json.{'0a' * 16}.tmp", tmp_path / "CURRENT.json.bak"]
    for path in (left, *others):
        path.write_text("half")
    write_pointer(tmp_path / "CURRENT.json", b"one")
    write_pointer(tmp_path / "CURRENT.json", b"two")
    assert (tmp_path / "CURRENT.json").read_bytes() == b"two"
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "CURRENT.json"
    write_pointer(path, b"one")
    with stage_lock(path), pytest.raises(TransientError, match="another run is writing it"):
        write_pointer(path, b"two")
    assert path.read_bytes() == b"one"
