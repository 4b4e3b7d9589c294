"""The package's own 64-bit hash of ids, pinned by golden values; never change its results.

Integers: `h64(v) = mix(v xor s)`. Strings: with the UTF-8 bytes cut into 8-byte little-endian
words `w_0 .. w_k` (the last padded with zero bytes, at least one word),
`h64(v) = mix(s + num_bytes + sum_i mix(w_i xor mix(s + i)))`. All arithmetic is modulo 2^64,
`s = mix(seed)`, and `mix` is one step of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
The sum over position-keyed words is ours: it needs no loop over characters or strings.
"""

import numpy as np
import pyarrow as pa

_MASK = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD_BYTES = 8
_KEEP_BYTES = np.array([(1 << 8 * n) - 1 for n in range(_WORD_BYTES + 1)], np.uint64)
_CHUNK_ROWS = 16_384
"""Rows hashed at a time, so that intermediate arrays stay in the second-level cache."""


def h64(values: pa.Array | pa.ChunkedArray | np.ndarray, seed: int) -> np.ndarray:
    """Hash integers or strings to 64 bits; equal on every machine, version and batch size.

    Args:
        values: integers of any width or booleans (equal values hash equally), strings,
            dictionaries of either, or a numpy array of these; N values.
        seed: any integer, taken modulo 2^64.

    Returns:
        uint64[N]; 0 where the value is null, for the caller to mask.

    Raises:
        TypeError: for any other type, so that no float is hashed by accident.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind not in "iub":
        values = pa.array(values)
    if isinstance(values, np.ndarray):
        return _hash_ints(values, mix_int(seed))
    if isinstance(values, pa.ChunkedArray):
        parts = [h64(chunk, seed) for chunk in values.chunks]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)
    if pa.types.is_dictionary(values.type):
        # A last entry 0 stands for null, also when the dictionary is empty.
        known = np.append(h64(values.dictionary, seed), np.uint64(0))
        place = values.indices.cast(pa.int64()).fill_null(len(known) - 1).to_numpy()
        taken: np.ndarray = known[place]
        return taken
    hashes = _hash_array(values, mix_int(seed))
    if values.null_count:
        hashes[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return hashes


def mix_int(value: int) -> int:
    """One step of splitmix64 on a Python integer."""
    z = (value + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)


def _hash_array(values: pa.Array, key: int) -> np.ndarray:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _hash_strings(values, key)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_null(kind):
        return np.zeros(len(values), np.uint64)
    elif not pa.types.is_integer(kind):
        raise TypeError(f"h64 takes integers and strings, not {kind}; convert the ids first")
    return _hash_ints(values.fill_null(0).to_numpy(), key)


def _hash_ints(values: np.ndarray, key: int) -> np.ndarray:
    hashes = values.astype(np.int64).view(np.uint64)
    for start in range(0, len(hashes), _CHUNK_ROWS):
        chunk = hashes[start : start + _CHUNK_ROWS]
        chunk ^= np.uint64(key)
        _mix(chunk)
    return hashes


def _mix(z: np.ndarray) -> np.ndarray:
    """One step of splitmix64 in place."""
    z += np.uint64(_GOLDEN)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_FIRST)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_SECOND)
    z ^= z >> np.uint64(31)
    return z


def _hash_strings(values: pa.Array, key: int) -> np.ndarray:
    words, offsets = _words(values)
    hashes = np.empty(len(values), np.uint64)
    for start in range(0, len(hashes), _CHUNK_ROWS):
        edges = offsets[start : start + _CHUNK_ROWS + 1]
        hashes[start : start + _CHUNK_ROWS] = _hash_chunk(words, edges, key)
    return hashes


def _words(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The 8-byte word that starts at each byte of the string data, and the strings' offsets."""
    width = np.int64 if pa.types.is_large_string(values.type) else np.int32
    _, edges, data = values.buffers()
    if edges is None:
        offsets = np.zeros(len(values) + 1, np.int64)
    else:
        window = np.frombuffer(edges, width)[values.offset : values.offset + len(values) + 1]
        offsets = window.astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + _WORD_BYTES, np.uint8)
    if last > first:
        padded[: last - first] = np.frombuffer(data, np.uint8)[first:last]
    words = np.ndarray((last - first + 1,), np.dtype("<u8"), padded, strides=(1,))
    return words, offsets - first


def _hash_chunk(words: np.ndarray, edges: np.ndarray, key: int) -> np.ndarray:
    starts, num_bytes = edges[:-1], np.diff(edges)
    total = num_bytes.astype(np.uint64) + np.uint64(key)
    num_words = np.maximum(-(-num_bytes // _WORD_BYTES), 1)
    if num_words.max() == 1:
        total += _mix((words[starts] & _KEEP_BYTES[num_bytes]) ^ np.uint64(mix_int(key)))
        return _mix(total)
    first = np.cumsum(num_words) - num_words
    index = np.arange(first[-1] + num_words[-1]) - np.repeat(first, num_words)
    left = np.minimum(np.repeat(num_bytes, num_words) - _WORD_BYTES * index, _WORD_BYTES)
    w = words[np.repeat(starts, num_words) + _WORD_BYTES * index] & _KEEP_BYTES[left]
    keys = _mix(np.arange(num_words.max(), dtype=np.uint64) + np.uint64(key))
    total += np.add.reduceat(_mix(w ^ keys[index]), first)
    return _mix(total)
