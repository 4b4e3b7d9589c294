"""Encode the test rows of one shard as a bundle's model sees them; runs in engine workers."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import writing
from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.columns import column_of
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.registry.predictions import MISSING, slice_column
from recsys_mtl.spec.layout import SPLIT


@dataclass(frozen=True, slots=True)
class HoldoutTask:
    """One shard to encode into `out`."""

    shard: ShardTask
    index: int
    """Number among the shards that may hold test rows."""
    ctx: SourceContext
    fit: Path
    """Directory of the bundle's fit state."""
    slices: dict[str, str]
    """Slicing feature to its assembled column."""
    out: Path


@dataclass(frozen=True, slots=True)
class EncodedHoldout:
    """Where the encoded test rows of a shard are, as Arrow IPC."""

    index: int
    path: Path
    quarantined: int


def encode_holdout(task: HoldoutTask) -> EncodedHoldout:
    """Encode the shard's test rows, with the raw slice values as extra string columns.

    Errors as `ingest.transform.encode`.
    """
    assembled, encoded = encode_rows(task.shard, task.ctx, _fit_state(task.fit))
    for feature, column in task.slices.items():
        raw = pc.cast(column_of(assembled.table, column), pa.string())
        encoded = encoded.append_column(slice_column(feature), pc.fill_null(raw, MISSING))
    test = encoded.filter(pc.equal(encoded[SPLIT], TEST))
    path = task.out / f"{task.index:05d}.arrow"
    with writing(path) as temporary, pa.ipc.new_file(temporary, test.schema) as file:
        file.write_table(test)
    return EncodedHoldout(task.index, path, assembled.quarantined.num_rows)


def read_holdout(path: Path) -> pa.Table:
    """The rows that `encode_holdout` wrote, mapped into memory."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all().combine_chunks()


@lru_cache(maxsize=4)
def _fit_state(directory: Path) -> FitState:
    return FitState.load(directory)
