import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.ingest import ids
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.ids import Vocab, table_ids
from recsys_mtl.spec.feature_spec import Table


def table(**kind) -> Table:
    return Table.model_validate({"dim": 4, "ids": kind})


def vocab(values: list, oov_buckets: int = 1) -> Vocab:
    return Vocab(pa.array(values), np.ones(len(values), np.int64), oov_buckets)


def test_range_ids():
    values = pa.array([0, 2, 3, -1, None, 2**62, -(2**63)])
    assert table_ids(values, table(kind="range", size=3), None).tolist() == [2, 4, 1, 1, 0, 1, 1]


def test_hash_ids_leave_zero_for_missing():
    spec = table(kind="hash", buckets=7, seed=17)
    values = pa.array([*range(500), None])
    found = table_ids(values, spec, None)
    assert set(found[:500].tolist()) == set(range(1, 8))
    assert found[-1] == 0
    assert found[0] == 1 + int(h64(pa.array([0]), 17)[0]) % 7


@pytest.mark.parametrize("values", [["b", "a", "c"], [5, -1, 2**60]])
def test_vocab_ids_follow_rank(values):
    unknown = "zz" if isinstance(values[0], str) else 99
    spec = table(kind="vocab", oov_buckets=3)
    query = pa.array([values[2], values[0], unknown, None, values[0]])
    found = table_ids(query, spec, vocab(values, 3)).tolist()
    assert found[:2] + found[3:] == [6, 4, 0, 4]
    assert found[2] == 1 + int(h64(pa.array([unknown]), 0)[0]) % 3
    assert table_ids(query.dictionary_encode(), spec, vocab(values, 3)).tolist() == found


def test_equal_hashes_are_told_apart(monkeypatch):
    """Values whose hashes meet are found under another seed; strangers are compared in full."""

    def weak(values, seed):
        return h64(values, seed) % np.uint64(2 if seed == 0 else 64)

    monkeypatch.setattr(ids, "h64", weak)
    known = ["a", "b", "c", "d"]
    query = pa.array(["d", *(f"x{i}" for i in range(300)), "a"])
    found = table_ids(query, table(kind="vocab"), vocab(known)).tolist()
    assert found == [5, *[1] * 300, 2]


def test_digest_tells_content_apart():
    digests = {
        vocab(["ab", "c"]).digest,
        vocab(["a", "bc"]).digest,
        vocab(["c", "ab"]).digest,
        vocab(["ab", "c"], 2).digest,
        vocab([1, 2]).digest,
        Vocab(pa.array(["ab", "c"]), np.array([2, 1]), 1).digest,
    }
    assert len(digests) == 6
    assert vocab(["ab", "c"]).digest == vocab(["x", "ab", "c"][1:]).digest
    sliced = Vocab(pa.array(["x", "ab", "c"])[1:], np.ones(2, np.int64), 1)
    assert sliced.digest == vocab(["ab", "c"]).digest
