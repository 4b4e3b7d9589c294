"""Encoded shards to batches: every row of a split once per epoch, in a reproducible order."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.batches.assemble import columns_of, labels_of, to_batch
from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.order import Buffer, RowGroup, Shuffle, order_within, plan_epoch
from recsys_mtl.batches.prefetch import prefetch
from recsys_mtl.batches.quiet import silence_torchrec
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.spec.layout import SPLIT, SPLITS, Layout, outcome_columns

SplitName = Literal["train", "valid", "test"]

_AHEAD = 2


class EncodedShards:
    """Shards `part-*.parquet` of an ingest artifact.

    Args:
        manifest: of the artifact.
        layout: order of everything in a batch.
        own: layout of the shards' source, where `layout` is that of several.
    """

    def __init__(self, manifest: Manifest, layout: Layout, own: Layout | None = None) -> None:
        silence_torchrec()
        self.layout = layout
        self._own = own or layout
        self._dir = manifest.dir
        self._files = sorted(
            entry.path
            for entry in manifest.files
            if entry.path.startswith("part-") and entry.path.endswith(".parquet")
        )
        self._columns = [*columns_of(self._own), SPLIT]

    def rows(self, split: SplitName) -> int:
        """Rows of a split."""
        return sum(group.rows for group in self._groups[split])

    def num_batches(self, split: SplitName, batch_rows: int) -> int:
        """Batches of an epoch; the last one may be smaller."""
        return -(-self.rows(split) // batch_rows)

    def batches(
        self,
        split: SplitName,
        batch_rows: int,
        *,
        shuffle: Shuffle | None = None,
        start_batch: int = 0,
    ) -> Iterator[Batch]:
        """Batches of one epoch, made in a background thread.

        The epoch is one fixed sequence of rows, cut into batches. So `start_batch` gives
        exactly the batches that an uninterrupted run would still have seen, and buffers that
        lie before it are not read.

        Args:
            split: rows to read.
            batch_rows: B; the last batch holds the rest, at least one row.
            shuffle: order of the rows; file order without.
            start_batch: batches to leave out at the beginning.

        Raises:
            IntegrityError: if a shard is damaged or lacks a column, at that batch.
        """
        return prefetch(self._assemble(split, batch_rows, shuffle, start_batch), _AHEAD)

    def labels(self, split: SplitName) -> Iterator[tuple[Tensor, Tensor]]:
        """Labels and masks of a split, float32[N, T] for each row group; no input is read.

        Raises:
            IntegrityError: if a shard is damaged or lacks a column.
        """
        columns = [*outcome_columns(self._own), SPLIT]
        for name in self._files:
            for rows in _read(self._dir / name, None, columns):
                is_wanted = pa.array(rows.column(SPLIT).to_numpy() == SPLITS.index(split))
                yield labels_of(rows.filter(is_wanted), self.layout, self._own)

    def survival(
        self, split: SplitName, batch_rows: int, *, shuffle: Shuffle | None = None
    ) -> Iterator[Batch]:
        """All batches of a source that has a survival label."""
        return self.batches(split, batch_rows, shuffle=shuffle)

    @cached_property
    def _groups(self) -> dict[str, list[RowGroup]]:
        """Row groups of all shards with their rows, by split."""
        groups: dict[str, list[RowGroup]] = {split: [] for split in SPLITS}
        for name in self._files:
            for index, table in enumerate(_read(self._dir / name, None, [SPLIT])):
                codes = table.column(SPLIT).to_numpy()
                counts = np.bincount(codes + 1, minlength=1 + len(SPLITS))[1:]
                for split, count in zip(SPLITS, counts, strict=True):
                    groups[split].append(RowGroup(name, index, int(count)))
        return groups

    def _assemble(
        self, split: SplitName, batch_rows: int, shuffle: Shuffle | None, start_batch: int
    ) -> Iterator[Batch]:
        held: list[pa.Table] = []
        missing = batch_rows
        for rows, order in self._buffers(split, shuffle, start_batch * batch_rows):
            taken = 0
            while taken < len(order):
                chosen = order[taken : taken + missing]
                held.append(rows.take(pa.array(chosen)))
                taken += len(chosen)
                missing -= len(chosen)
                if missing == 0:
                    yield to_batch(pa.concat_tables(held), self.layout, self._own)
                    held, missing = [], batch_rows
        if held:
            yield to_batch(pa.concat_tables(held), self.layout, self._own)

    def _buffers(
        self, split: SplitName, shuffle: Shuffle | None, first_row: int
    ) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """Rows of each buffer and the order in which they are used, from `first_row` on."""
        for buffer in plan_epoch(self._groups[split], shuffle):
            before = max(0, first_row - buffer.first_row)
            if before >= buffer.rows:
                continue
            rows = self._load(buffer)
            wanted = np.flatnonzero(rows.column(SPLIT).to_numpy() == SPLITS.index(split))
            yield rows, wanted[order_within(buffer, shuffle)][before:]

    def _load(self, buffer: Buffer) -> pa.Table:
        tables = [
            table
            for group in buffer.groups
            for table in _read(self._dir / group.file, group.index, self._columns)
        ]
        # One chunk per column: taking rows from chunked lists is several times slower.
        return pa.concat_tables(tables).combine_chunks()


def _read(path: Path, group: int | None, columns: list[str]) -> Iterator[pa.Table]:
    """One row group of a shard, or each; page checksums are verified."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            absent = sorted(set(columns) - set(file.schema_arrow.names))
            if absent:
                raise _damaged(path, f"has no column {', '.join(map(repr, absent))}")
            for index in range(file.num_row_groups) if group is None else (group,):
                yield file.read_row_group(index, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        Problem(str(path), what, "Move the artifact's directory away and rerun ingest.")
    )
