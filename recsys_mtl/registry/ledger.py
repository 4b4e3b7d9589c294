"""The ledger: a hash-chained file per event, because the registry keeps no history of aliases."""

import hashlib
import json
import os
import pwd
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_mtl.artifacts.commit import explained, make_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.errors import IntegrityError, Problem, TransientError

_FIRST = "0" * 64
CHAIN = ("seq", "time", "action", "actor", "parent_hash", "hash")
"""Fields that `append` adds to the facts of an event."""


class Ledger:
    """Entries `<seq>.json` below `home/<pipeline>/ledger`, each with the hash of the one before."""

    def __init__(self, home: Path, pipeline: str) -> None:
        self.directory = home / pipeline / "ledger"

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first, with the chain verified.

        Raises:
            IntegrityError: if an entry was changed, removed or reordered. Entries removed from
                the end leave an intact chain; `promote.verify` compares it with the alias.
        """
        found: list[dict[str, Any]] = []
        for number, path in enumerate(sorted(self.directory.glob("*.json"))):
            entry = _read(path)
            parent = found[-1]["hash"] if found else _FIRST
            if entry.get("hash") != _digest(entry):
                raise _broken(path, "was changed after it was written")
            if entry["seq"] != number or path.name != _name(number):
                raise _broken(path, f"is entry {entry['seq']}, expected entry {number}")
            if entry["parent_hash"] != parent:
                raise _broken(path, "does not continue the entry before it")
            found.append(entry)
        return found

    def append(self, action: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the next entry.

        Args:
            action: for example `promote-begin`.
            facts: JSON values of the event.

        Raises:
            IntegrityError: if the chain is broken.
            TransientError: if another process wrote this entry first, or the disk is full.
        """
        before = self.entries()
        entry = {
            **facts,
            "seq": len(before),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "actor": _actor(),
            "parent_hash": before[-1]["hash"] if before else _FIRST,
        }
        entry["hash"] = _digest(entry)
        path = make_dir(self.directory) / _name(len(before))
        with explained(path):
            _create(path, _bytes(entry))
        return entry


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _create(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet: whole, durable, or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A link is made only if the name is free, and always to a complete file.
        os.link(temporary, path)
    except FileExistsError:
        raise TransientError(f"{path}: another promotion wrote it first; rerun") from None
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _actor() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container's user may have no name.
        return f"uid {os.getuid()}"


def _read(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    try:
        entry = json.loads(data)
    except ValueError:
        raise _broken(path, "is not JSON") from None
    if not isinstance(entry, dict) or not set(CHAIN) <= entry.keys():
        raise _broken(path, "is not a ledger entry")
    if _bytes(entry) != data:
        raise _broken(path, "was changed after it was written")
    return entry


def _bytes(entry: Mapping[str, Any]) -> bytes:
    return canonical(entry) + b"\n"


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def _broken(path: Path, message: str) -> IntegrityError:
    fix = "Restore the ledger from a backup; promotion stays blocked until it verifies."
    return IntegrityError(Problem(str(path), message, fix))
