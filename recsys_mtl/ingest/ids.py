"""From canonical ids to rows of embedding tables; the rules of `tables.<t>.ids`."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import Family, family_of
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.spec.feature_spec import HashIds, RangeIds, Table, VocabIds

_OOV_SEED = 0


@dataclass(frozen=True, eq=False)
class Vocab:
    """Kept values of one table by falling count, then by value; their rank makes the id."""

    values: pa.Array
    """int64 or string, [V], distinct, no nulls."""
    counts: np.ndarray
    """int64[V], occurrences in the train rows."""
    oov_buckets: int
    """Ids 1 to `oov_buckets` stand for all other values, by hash."""

    @property
    def family(self) -> Family | None:
        """What the values are; None for an empty vocabulary of no type."""
        return family_of(self.values)

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of the content, independent of how it is stored."""
        head = f"{self.family} {len(self.values)} {self.oov_buckets}\n"
        digest = hashlib.sha256(head.encode())
        if self.family == "string":
            digest.update(pc.binary_length(self.values).to_numpy().astype("<i8").tobytes())
            everything = pa.ListArray.from_arrays([0, len(self.values)], self.values)
            digest.update(pc.binary_join(everything, "")[0].as_py().encode())
        elif self.family == "int":
            digest.update(self.values.to_numpy().astype("<i8").tobytes())
        digest.update(self.counts.astype("<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def _by_hash(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Seed under which all values differ, their sorted hashes, and the rank of each."""
        seed = _OOV_SEED
        hashes = h64(self.values, seed)
        while len(np.unique(hashes)) < len(hashes):
            seed += 1
            hashes = h64(self.values, seed)
        order = np.argsort(hashes, kind="stable")
        return seed, hashes[order], order

    @property
    def ids(self) -> np.ndarray:
        """Row of the table for each value, int64[V]."""
        return 1 + self.oov_buckets + np.arange(len(self.values))

    def lookup(self, values: pa.Array) -> np.ndarray:
        """Rows of the table for int64 or string values without nulls; int64[N]."""
        rank = self._rank(values)
        oov = 1 + (h64(values, _OOV_SEED) % np.uint64(self.oov_buckets)).astype(np.int64)
        return np.where(rank >= 0, 1 + self.oov_buckets + rank, oov)

    def _rank(self, values: pa.Array) -> np.ndarray:
        """Rank of each value, -1 where it is not kept."""
        if len(self.values) == 0 or len(values) == 0 or family_of(values) != self.family:
            return np.full(len(values), -1, np.int64)
        seed, hashes, order = self._by_hash
        place = np.searchsorted(hashes, h64(values, seed))
        rank = order[np.minimum(place, len(order) - 1)]
        same = pc.equal(self.values.take(pa.array(rank)), values).fill_null(False)
        return np.where(same.to_numpy(zero_copy_only=False), rank, -1)


def table_ids(values: pa.Array, table: Table, vocab: Vocab | None) -> np.ndarray:
    """Rows of an embedding table.

    Args:
        values: canonical ids, [N]; integers for a table of kind range.
        table: the declaration.
        vocab: the fitted vocabulary of a table of kind vocab.

    Returns:
        int64[N]: 0 for null, then `num_oov` ids of unknown values, then the values.
    """
    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.int64)
    if isinstance(table.ids, VocabIds) and not pa.types.is_dictionary(values.type):
        # Distinct values are looked up once: a probe per element costs several times more.
        values = values.dictionary_encode()
    if pa.types.is_dictionary(values.type):
        # A last entry 0 stands for null, also when the dictionary is empty.
        known = np.append(_plain_ids(values.dictionary, table, vocab), 0)
        place = values.indices.cast(pa.int64()).fill_null(len(known) - 1).to_numpy()
        taken: np.ndarray = known[place]
        return taken
    ids = _plain_ids(values, table, vocab)
    if values.null_count:
        ids[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return ids


def _plain_ids(values: pa.Array, table: Table, vocab: Vocab | None) -> np.ndarray:
    match table.ids:
        case HashIds(buckets=buckets, seed=seed):
            return 1 + (h64(values, seed) % np.uint64(buckets)).astype(np.int64)
        case RangeIds(size=size):
            number = values.fill_null(-1).to_numpy()
            return np.where((number >= 0) & (number < size), number + 2, 1)
        case VocabIds():
            assert vocab is not None, "a vocab table is encoded after it was fitted"
            return vocab.lookup(values)
