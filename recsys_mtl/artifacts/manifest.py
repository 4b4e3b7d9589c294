"""MANIFEST.json: the file whose presence makes a directory a finished artifact."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, is_temporary, sha256_file
from recsys_mtl.artifacts.sealed import seal, unseal
from recsys_mtl.errors import IntegrityError, Problem

__all__ = ["MANIFEST", "FileEntry", "Manifest", "is_published", "open_artifact", "publish"]

MANIFEST = "MANIFEST.json"
SIDE_NAMES = {"timing.jsonl", "ckpt"}
"""Top-level names that stay outside the manifest, as do all that begin with `_` or `.`."""
_RERUN = "Move the directory away and rerun the stage that made it."


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished artifact: its directory, files, meta data, and the sha256 of its manifest."""

    dir: Path
    files: tuple[FileEntry, ...]
    meta: dict[str, Any]
    sha: str

    def entry(self, name: str) -> FileEntry:
        """The entry of a listed file.

        Raises:
            IntegrityError: if the manifest does not list it.
        """
        for entry in self.files:
            if entry.path == name:
                return entry
        raise _broken(self.dir, f"the manifest lists no file {name!r}")

    def path(self, name: str) -> Path:
        """Where a listed file is; errors as `entry`."""
        return self.dir / self.entry(name).path


def is_published(directory: Path) -> bool:
    """Whether the directory holds a finished artifact."""
    return (directory / MANIFEST).is_file()


def publish(directory: Path, files: Sequence[FileEntry], meta: dict[str, Any]) -> Manifest:
    """Make the directory an artifact, by writing its manifest last.

    Unfinished writes of killed runs are removed; call it while holding the stage's lock.

    Args:
        directory: holds all of `files`, each already committed.
        files: every file of the artifact, in any order.
        meta: canonical JSON values; everything the artifact was made from.

    Raises:
        IntegrityError: if a listed file is absent, of another size or outside the directory, or
            if the directory holds a file that is not listed.
    """
    listed = tuple(sorted(files, key=lambda entry: entry.path))
    _check_names(directory, listed)
    _check_sizes(directory, listed)
    for path in list(_walk(directory)):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)
    _check_unlisted(directory, listed)
    data = seal({"files": [asdict(entry) for entry in listed], "meta": meta})
    atomic_write(directory / MANIFEST, data)
    # Through the reader, so that a fresh artifact and a reopened one hold equal values.
    return _parse(directory, data)


def open_artifact(directory: Path, verify: bool = True) -> Manifest:
    """Open a finished artifact.

    Args:
        directory: where `publish` put it.
        verify: compare the sha256 of every file; sizes and names are always compared.

    Raises:
        IntegrityError: if there is no manifest, or the directory is not exactly what it says.
    """
    try:
        data = (directory / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _broken(
            directory,
            f"there is no {MANIFEST}, so the artifact is not finished",
            "Rerun the stage that makes it.",
        ) from None
    manifest = _parse(directory, data)
    _check_sizes(directory, manifest.files)
    _check_unlisted(directory, manifest.files)
    if verify:
        _check_digests(directory, manifest.files)
    return manifest


def _parse(directory: Path, data: bytes) -> Manifest:
    record = unseal(data, directory / MANIFEST)
    try:
        files = tuple(FileEntry(**entry) for entry in record["files"])
        meta = record["meta"]
    except (KeyError, TypeError) as error:
        raise _broken(
            directory / MANIFEST, f"is not of the form this version reads: {error}"
        ) from error
    _check_names(directory, files)
    return Manifest(directory, files, meta, hashlib.sha256(data).hexdigest())


def _check_names(directory: Path, files: Sequence[FileEntry]) -> None:
    seen: set[str] = set()
    for name in (entry.path for entry in files):
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or pure.as_posix() != name or name == ".":
            raise _broken(directory, f"the manifest lists {name!r}, a path outside the directory")
        if name in seen or name == MANIFEST:
            raise _broken(directory, f"the manifest lists {name!r} twice or itself")
        seen.add(name)


def _check_sizes(directory: Path, files: Sequence[FileEntry]) -> None:
    root = directory.resolve()
    for entry in files:
        path = directory / entry.path
        if not path.resolve().is_relative_to(root):
            raise _broken(path, "is a link that leaves the artifact's directory")
        if not path.is_file():
            raise _broken(path, "is listed in the manifest but absent", code="D024")
        size = path.stat().st_size
        if size != entry.bytes:
            raise _broken(path, f"has {size:,} bytes, {MANIFEST} says {entry.bytes:,}", code="D022")


def _check_digests(directory: Path, files: Sequence[FileEntry]) -> None:
    for entry in files:
        path = directory / entry.path
        digest = sha256_file(path)
        if digest != entry.sha256:
            raise _broken(
                path,
                f"sha256 is {digest[:12]}..., {MANIFEST} says {entry.sha256[:12]}...;"
                " the file changed after it was written",
                code="D022",
            )


def _check_unlisted(directory: Path, files: Sequence[FileEntry]) -> None:
    listed = {entry.path for entry in files} | {MANIFEST}
    names = (path.relative_to(directory).as_posix() for path in _walk(directory))
    unlisted = sorted(n for n in names if n not in listed and not is_temporary(n))
    if unlisted:
        more = f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""
        raise _broken(directory / unlisted[0], f"is not listed in {MANIFEST}{more}", code="D023")


def _walk(directory: Path) -> Iterator[Path]:
    """Every file of the artifact; working state (`SIDE_NAMES`, `_*`, `.*`) is left out."""
    for folder, folders, names in os.walk(directory):
        if Path(folder) == directory:
            folders[:] = [name for name in folders if not _is_side(name)]
            names = [name for name in names if not _is_side(name)]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in [*names, *links])


def _is_side(name: str) -> bool:
    return name in SIDE_NAMES or name.startswith(("_", "."))


def _broken(path: Path, what: str, fix: str = _RERUN, code: str = "") -> IntegrityError:
    return IntegrityError(Problem(str(path), what, fix, code))
