"""Small files beside artifacts that say which one is current."""

from pathlib import Path

from recsys_mtl.artifacts.commit import atomic_write, is_temporary
from recsys_mtl.artifacts.lock import stage_lock


def write_pointer(path: Path, data: bytes) -> None:
    """Replace a pointer, and remove what killed writers of it have left.

    Artifacts clean up when they are published; the folder that holds them never is.

    Raises:
        TransientError: if another run is writing it, or the disk is full.
        ConfigError: if the folder cannot be written.
    """
    with stage_lock(path):
        for left in path.parent.glob(f"{path.name}.*"):
            if is_temporary(left.name):
                left.unlink(missing_ok=True)
        atomic_write(path, data)
