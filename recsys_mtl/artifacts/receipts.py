"""Receipts: which shards of a plan are done, so that a rerun does only the rest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, entry_of, sha256_file
from recsys_mtl.artifacts.sealed import seal, unseal
from recsys_mtl.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one shard became. Holds no clock, host or worker: equal runs write equal bytes."""

    index: int
    count: int
    """Shards of the plan."""
    source: str
    """Input file, relative to the data root."""
    rows_in: int
    rows_out: int
    rows_quarantined: int
    files: tuple[FileEntry, ...]
    """Paths relative to the directory of the receipt."""
    counts: Mapping[str, int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows_in != self.rows_out + self.rows_quarantined:
            raise IntegrityError(
                f"{part_name(self.index, self.count)}: {self.rows_in:,} rows came in, but"
                f" {self.rows_out:,} went out and {self.rows_quarantined:,} were quarantined;"
                " rows were lost or doubled, nothing was published"
            )


def part_name(index: int, count: int, suffix: str = "") -> str:
    """Name of one of `count` shards: `part-00012-of-00060`."""
    return f"part-{index:05d}-of-{count:05d}{suffix}"


def write_receipt(directory: Path, receipt: Receipt) -> FileEntry:
    """Commit a shard whose files are all written; returns the receipt's own entry."""
    path = directory / part_name(receipt.index, receipt.count, ".json")
    record = {**asdict(receipt), "files": [asdict(entry) for entry in receipt.files]}
    atomic_write(path, seal(record))
    return entry_of(path, directory)


def committed(directory: Path, index: int, count: int) -> Receipt | None:
    """The receipt of a shard whose files are all there with the recorded sha256, else None."""
    receipt = read_receipt(directory, index, count)
    if receipt is None:
        return None
    intact = all(
        (directory / entry.path).is_file() and sha256_file(directory / entry.path) == entry.sha256
        for entry in receipt.files
    )
    return receipt if intact else None


def read_receipt(directory: Path, index: int, count: int) -> Receipt | None:
    """The receipt of a shard without a look at its files; None if absent or damaged."""
    path = directory / part_name(index, count, ".json")
    try:
        record = unseal(path.read_bytes(), path)
    except (FileNotFoundError, IntegrityError):
        return None
    files = tuple(FileEntry(**entry) for entry in record.pop("files"))
    return Receipt(files=files, **record)
