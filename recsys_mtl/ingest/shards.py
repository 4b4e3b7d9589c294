"""Encoding one shard: assembled, encoded, sorted, committed; a rerun does only what is missing."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import make_dir, write_table
from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.artifacts.receipts import Receipt, committed, part_name, write_receipt
from recsys_mtl.engines.base import worker_name
from recsys_mtl.ingest.assemble import SourceContext, encode_rows
from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.splits import OUTSIDE
from recsys_mtl.spec.layout import ROW_ID, SPLIT, SPLITS, TIME

FIT = "fit"
_QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """One shard to encode into `out`, with the fit state in `out/fit`."""

    shard: ShardTask
    count: int
    ctx: SourceContext
    out: Path
    root: Path

    @property
    def index(self) -> int:
        """Number of the shard."""
        return self.shard.index


def encode_shard(task: EncodeTask) -> tuple[Receipt, str]:
    """Encode and commit one shard, unless its receipt says that this is done; and who did it.

    Raises:
        DataError: naming file, row and column of what cannot be encoded.
        IntegrityError: if rows were lost or doubled on the way.
    """
    done = committed(task.out, task.index, task.count)
    if done is not None:
        return done, worker_name()
    assembled, encoded = encode_rows(task.shard, task.ctx, _fit_state(task.out / FIT))
    encoded = encoded.take(sorted_by_time(encoded))
    name = part_name(task.index, task.count, ".parquet")
    entries = [write_table(task.out / name, encoded, task.out)]
    if assembled.quarantined.num_rows:
        path = make_dir(task.out / _QUARANTINE) / name
        entries.append(write_table(path, assembled.quarantined, task.out))
    receipt = Receipt(
        task.index,
        task.count,
        task.shard.path.relative_to(task.root).as_posix(),
        task.shard.rows,
        encoded.num_rows,
        assembled.quarantined.num_rows,
        tuple(entries),
        {**_split_rows(encoded), **assembled.counts},
    )
    write_receipt(task.out, receipt)
    return receipt, worker_name()


def sorted_by_time(encoded: pa.Table) -> pa.Array:
    """Order by (time, row id)."""
    return pc.sort_indices(encoded, [(TIME, "ascending"), (ROW_ID, "ascending")])


def _split_rows(encoded: pa.Table) -> dict[str, int]:
    """Rows of each split; `outside` are those in an embargo or beyond the window."""
    codes = encoded[SPLIT].to_numpy()
    named = {**dict(enumerate(SPLITS)), OUTSIDE: "outside"}
    return {name: int((codes == code).sum()) for code, name in named.items()}


@lru_cache(maxsize=4)
def _fit_state(directory: Path) -> FitState:
    return FitState.load(directory)
