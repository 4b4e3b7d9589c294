"""The ledger's files: whole or absent, chained, and nothing between the bits."""

import json
import random
import threading

import pytest

from recsys_mtl.errors import IntegrityError, TransientError
from recsys_mtl.registry import ledger as module
from recsys_mtl.registry.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path, "m")
    for number in range(3):
        made.append("note", {"number": number, "share": 0.1 + number})
    return made


def paths(ledger):
    return sorted(ledger.directory.glob("*.json"))


def test_each_entry_names_the_hash_of_the_one_before(ledger):
    first, second, _ = ledger.entries()
    assert first["parent_hash"] == "0" * 64
    assert second["parent_hash"] == first["hash"]
    assert [p.name for p in paths(ledger)] == ["000000.json", "000001.json", "000002.json"]
    assert [e["number"] for e in ledger.entries()] == [0, 1, 2]


def test_one_flipped_bit_is_detected_in_every_entry(ledger):
    rng = random.Random(11)
    for path in paths(ledger):
        original = path.read_bytes()
        for _ in range(40):
            broken = bytearray(original)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(broken))
            with pytest.raises(IntegrityError, match=path.name):
                ledger.entries()
        path.write_bytes(original)
    assert len(ledger.entries()) == 3


def test_a_space_that_changes_no_value_is_detected(ledger):
    path = paths(ledger)[2]
    path.write_bytes(path.read_bytes().replace(b",", b", ", 1))
    with pytest.raises(IntegrityError, match="was changed"):
        ledger.entries()


def test_a_rewritten_entry_with_a_hash_of_its_own_breaks_the_chain(ledger):
    path = paths(ledger)[1]
    entry = {**json.loads(path.read_bytes()), "number": 9}
    entry["hash"] = module._digest(entry)
    path.write_bytes(module._bytes(entry))
    with pytest.raises(IntegrityError, match=r"000002\.json: does not continue"):
        ledger.entries()


@pytest.mark.parametrize("removed", [0, 1])
def test_a_removed_entry_is_detected_and_nothing_is_appended(ledger, removed):
    paths(ledger)[removed].unlink()
    with pytest.raises(IntegrityError, match="expected entry"):
        ledger.entries()
    with pytest.raises(IntegrityError):
        ledger.append("note", {})


def test_swapped_entries_are_detected(ledger):
    first, second, _ = paths(ledger)
    saved = first.read_bytes(), second.read_bytes()
    first.write_bytes(saved[1])
    second.write_bytes(saved[0])
    with pytest.raises(IntegrityError, match="is entry 1, expected entry 0"):
        ledger.entries()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_file_that_is_no_entry_is_refused(ledger, content):
    paths(ledger)[2].write_bytes(content)
    with pytest.raises(IntegrityError, match="promotion stays blocked until it verifies"):
        ledger.entries()


def test_a_write_that_was_cut_short_leaves_no_entry(ledger, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "link", dies)
        with pytest.raises(KeyboardInterrupt):
            ledger.append("note", {"number": 3})
    assert len(ledger.entries()) == 3
    assert ledger.append("note", {"number": 3})["seq"] == 3


def test_of_two_writers_of_one_entry_one_comes_back_later(ledger):
    """Both have read three entries; the lock of promotion normally keeps them apart."""
    barrier, outcomes = threading.Barrier(2), []

    class Racing(Ledger):
        def entries(self):
            found = super().entries()
            barrier.wait(10)
            return found

    def write():
        try:
            racing = Racing(ledger.directory.parents[1], "m")
            outcomes.append(racing.append("note", {})["seq"])
        except TransientError:
            outcomes.append("later")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [3, "later"]
    assert len(ledger.entries()) == 4
