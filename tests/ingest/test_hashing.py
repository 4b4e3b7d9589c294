import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.ingest.hashing import h64, mix_int

GOLDEN = json.loads((Path(__file__).parent / "golden_hash.json").read_text())
MASK = 2**64 - 1


def reference(value: int | str, seed: int) -> int:
    """The definition, one value at a time."""
    s = mix_int(seed)
    if isinstance(value, int):
        return mix_int((value ^ s) & MASK)
    data = value.encode()
    total = s + len(data)
    for i in range(max(1, -(-len(data) // 8))):
        word = int.from_bytes(data[8 * i : 8 * i + 8], "little")
        total += mix_int(word ^ mix_int(s + i))
    return mix_int(total & MASK)


def test_mix_is_splitmix64():
    """First outputs of the published generator (Vigna, splitmix64.c) started at 0."""
    assert mix_int(0) == 0xE220A8397B1DCDAF
    assert mix_int(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


@pytest.mark.parametrize("kind", [int, str])
def test_golden_values(kind):
    golden = [row for row in GOLDEN if isinstance(row[0], kind)]
    assert len(golden) >= 400
    for seed in {row[1] for row in golden}:
        values, expected = zip(*((v, h) for v, s, h in golden if s == seed), strict=True)
        assert h64(pa.array(values), seed).tolist() == list(expected)


@given(st.lists(st.text(max_size=40) | st.none(), max_size=30), st.integers(-(2**70), 2**70))
def test_strings_hash_as_defined_and_null_is_zero(values, seed):
    expected = [0 if v is None else reference(v, seed) for v in values]
    assert h64(pa.array(values, pa.string()), seed).tolist() == expected
    assert h64(pa.array(values, pa.large_string()), seed).tolist() == expected
    assert h64(pa.array(values, pa.string()).dictionary_encode(), seed).tolist() == expected


@given(st.lists(st.integers(-128, 127) | st.none(), max_size=30), st.integers(0, 2**64))
def test_ints_hash_as_defined_for_any_width(values, seed):
    expected = [0 if v is None else reference(v, seed) for v in values]
    for kind in (pa.int8(), pa.int32(), pa.int64()):
        assert h64(pa.array(values, kind), seed).tolist() == expected


def test_slices_chunks_and_batches_hash_alike():
    values = pa.array([f"item-{i * 7919}" for i in range(40_000)])
    whole = h64(values, 17)
    assert np.array_equal(h64(values[16_383:16_390], 17), whole[16_383:16_390])
    chunks = pa.chunked_array([values[:5], values[5:20_000], values[20_000:]])
    assert np.array_equal(h64(chunks, 17), whole)
    assert len(np.unique(whole)) == 40_000


def test_numpy_arrays_hash_as_arrow():
    assert h64(np.array([3, -3], np.int16), 1).tolist() == h64(pa.array([3, -3]), 1).tolist()
    assert h64(np.array(["a", "bc"]), 1).tolist() == h64(pa.array(["a", "bc"]), 1).tolist()
    assert h64(np.array([True]), 1).tolist() == h64(pa.array([1]), 1).tolist()
    assert h64(pa.chunked_array([], pa.int64()), 1).tolist() == []


def test_buckets_fill_evenly():
    """1,000 buckets, 200,000 values each of ints and strings: chi-square within 4 sigma."""
    ids = np.arange(200_000)
    for values in (pa.array(ids), pa.array([f"u{i}" for i in ids.tolist()])):
        counts = np.bincount((h64(values, 17) % np.uint64(1000)).astype(np.int64), minlength=1000)
        chi_square = ((counts - 200) ** 2 / 200).sum()
        assert abs(chi_square - 999) < 4 * np.sqrt(2 * 999)


@pytest.mark.parametrize("values", [pa.array([1.0]), np.array([1.0]), pa.array([b"x"])])
def test_other_types_are_refused(values):
    with pytest.raises(TypeError, match="h64 takes integers and strings"):
        h64(values, 0)
