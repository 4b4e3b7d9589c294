"""One writer per artifact directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_mtl.artifacts.commit import explained, make_dir
from recsys_mtl.errors import Problem, TransientError


@contextmanager
def stage_lock(directory: Path) -> Iterator[None]:
    """Hold the exclusive right to write `directory`, which need not exist yet.

    The kernel's advisory lock on `.<name>.lock` beside the directory: it is freed when the
    holder ends, however it ends, so there are no stale locks and no clocks to compare. The file
    stays, because removing it would let two processes lock two files of one name.

    Raises:
        TransientError: if a live process holds it.
    """
    path = make_dir(directory.parent) / f".{directory.name}.lock"
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path, directory)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 200, 0).decode("ascii", "replace").strip()
        raise TransientError(
            Problem(
                str(directory),
                f"another run is writing it ({owner or 'owner unknown'})",
                "Wait for it to end, then rerun; a finished result is reused.",
            )
        ) from None
    with explained(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
