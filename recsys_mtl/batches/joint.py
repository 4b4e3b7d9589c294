"""Batches of two sources as one stream, in a fixed and resumable order."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.batches.reader import EncodedShards, SplitName


class Shards(Protocol):
    """What training reads: `EncodedShards` of one source, or `JointShards` of two."""

    def rows(self, split: SplitName) -> int:
        """Rows of a split."""
        ...

    def num_batches(self, split: SplitName, batch_rows: int) -> int:
        """Batches of an epoch."""
        ...

    def batches(
        self,
        split: SplitName,
        batch_rows: int,
        *,
        shuffle: Shuffle | None = None,
        start_batch: int = 0,
    ) -> Iterator[Batch]:
        """Batches of one epoch from the `start_batch`-th on."""
        ...

    def labels(self, split: SplitName) -> Iterator[tuple[Tensor, Tensor]]:
        """Labels and masks of all rows with binary labels."""
        ...

    def survival(
        self, split: SplitName, batch_rows: int, *, shuffle: Shuffle | None = None
    ) -> Iterator[Batch]:
        """Batches of all rows with a survival label."""
        ...


class JointShards:
    """Batches of either source, never mixed within one, spread evenly over the epoch.

    With a and b batches, position i belongs to the second source where floor((i + 1) b / (a + b))
    exceeds floor(i b / (a + b)); so every batch of both comes once per epoch.

    Args:
        first: shards of one source.
        second: those of the other, with the same layout.
        second_rows: rows of a batch of the second source, at most.
    """

    def __init__(self, first: EncodedShards, second: EncodedShards, second_rows: int) -> None:
        self.first, self.second, self.second_rows = first, second, second_rows

    def rows(self, split: SplitName) -> int:
        """Rows of both."""
        return self.first.rows(split) + self.second.rows(split)

    def num_batches(self, split: SplitName, batch_rows: int) -> int:
        """Batches of both."""
        return sum(self._counts(split, batch_rows))

    def batches(
        self,
        split: SplitName,
        batch_rows: int,
        *,
        shuffle: Shuffle | None = None,
        start_batch: int = 0,
    ) -> Iterator[Batch]:
        """As `EncodedShards.batches`."""
        num_first, num_second = self._counts(split, batch_rows)
        total = num_first + num_second
        before = start_batch * num_second // total if total else 0
        own_rows = min(batch_rows, self.second_rows)
        start = start_batch - before
        streams = (
            self.first.batches(split, batch_rows, shuffle=shuffle, start_batch=start),
            self.second.batches(split, own_rows, shuffle=shuffle, start_batch=before),
        )
        for i in range(start_batch, total):
            is_second = (i + 1) * num_second // total > i * num_second // total
            yield next(streams[is_second])

    def labels(self, split: SplitName) -> Iterator[tuple[Tensor, Tensor]]:
        """As `EncodedShards.labels`, of the first source: the second has no binary labels."""
        return self.first.labels(split)

    def survival(
        self, split: SplitName, batch_rows: int, *, shuffle: Shuffle | None = None
    ) -> Iterator[Batch]:
        """Of the second source."""
        return self.second.survival(split, batch_rows, shuffle=shuffle)

    def _counts(self, split: SplitName, batch_rows: int) -> tuple[int, int]:
        own_rows = min(batch_rows, self.second_rows)
        return self.first.num_batches(split, batch_rows), self.second.num_batches(split, own_rows)
