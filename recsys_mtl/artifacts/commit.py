"""Atomic, durable file writes: temporary file, fsync, rename, fsync of the directory.

The protocol's calls are the module-level functions `_write`, `_fsync_file`, `_replace` and
`_fsync_dir`; tests inject faults and kills at the n-th of them.
"""

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.errors import ConfigError, IntegrityError, Problem, RecsysError, TransientError

ROW_GROUP_ROWS = 65_536
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One committed file, as a receipt or manifest lists it."""

    path: str
    """Posix path relative to the artifact's directory."""
    sha256: str
    bytes: int
    rows: int | None = None


def make_dir(path: Path) -> Path:
    """Create a directory with its parents and return it.

    Raises:
        ConfigError: if it cannot be made or written there.
    """
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` so that a reader sees the old file, or the whole new one.

    Raises:
        TransientError: if the disk is full.
        ConfigError: if the directory cannot be written.
    """
    with writing(path) as temporary, temporary.open("xb") as file:
        _write(file, data)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; publish what the body wrote there on success.

    For writers that need a path of their own (safetensors, Arrow IPC). Errors as `atomic_write`.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with explained(path):
        try:
            yield temporary
            _fsync_file(temporary)
            _replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_dir(path.parent)


def write_table(path: Path, table: pa.Table, root: Path | None = None) -> FileEntry:
    """Write a table as Parquet with fixed options; equal tables give equal bytes.

    Args:
        path: target, written atomically.
        table: rows in the order they shall have in the file.
        root: directory that the entry's path is relative to; the file's own when absent.

    Returns:
        The entry for a receipt or manifest.
    """
    sink = pa.BufferOutputStream()
    # Page boundaries follow chunk boundaries; one chunk makes bytes independent of the reader.
    pq.write_table(
        table.combine_chunks(),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        version="2.6",
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
    )
    data = memoryview(sink.getvalue())
    atomic_write(path, data)
    name = path.relative_to(root or path.parent).as_posix()
    return FileEntry(name, hashlib.sha256(data).hexdigest(), data.nbytes, table.num_rows)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read Parquet with its page checksums verified.

    Args:
        path: a file that `write_table` made.
        columns: top-level columns, in this order; all when absent.

    Raises:
        IntegrityError: if the file is damaged or lacks a column.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise _damaged(path, f"has no column {', '.join(map(repr, missing))}")
            table = file.read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    return table if columns is None else table.select(list(columns))


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_of(path: Path, root: Path, rows: int | None = None) -> FileEntry:
    """Entry of a file that `writing` or `atomic_write` put below `root`."""
    return FileEntry(
        path.relative_to(root).as_posix(), sha256_file(path), path.stat().st_size, rows
    )


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished write of this module."""
    return _TEMPORARY.search(name) is not None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk into TransientError and a refused write into ConfigError, naming `path`."""
    try:
        yield
    except OSError as error:
        explanation = _explanation(path, error)
        if explanation is None:
            raise
        raise explanation from error


def _explanation(path: Path, error: OSError) -> RecsysError | None:
    if error.errno in _FULL:
        return TransientError(
            Problem(
                str(path),
                f"the disk is full ({error.strerror}); nothing was published",
                "Free space, then rerun: finished shards are kept.",
            )
        )
    if error.errno in _REFUSED:
        return ConfigError(
            Problem(
                str(path),
                f"cannot be written ({error.strerror})",
                "Give write permission, or choose another output folder with"
                " `--set home=<folder>`.",
            )
        )
    return None


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        Problem(str(path), what, "Move its directory away and rerun the stage that made it.")
    )


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)


def _fsync_file(path: Path) -> None:
    _sync(path)


def _replace(source: Path, target: Path) -> None:
    os.replace(source, target)


def _fsync_dir(path: Path) -> None:
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
