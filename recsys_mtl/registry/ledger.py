"""The ledger: a hash-chained file per event, because the registry keeps no history of aliases."""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_mtl.artifacts.commit import make_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.errors import IntegrityError, Problem, TransientError

_FIRST = "0" * 64


class Ledger:
    """Entries `<seq>.json` below `home/<pipeline>/ledger`, each with the hash of the one before."""

    def __init__(self, home: Path, pipeline: str) -> None:
        self.directory = home / pipeline / "ledger"

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first, with the chain verified.

        Raises:
            IntegrityError: if an entry was changed, removed or reordered.
        """
        found: list[dict[str, Any]] = []
        for number, path in enumerate(sorted(self.directory.glob("*.json"))):
            entry = _read(path)
            parent = found[-1]["hash"] if found else _FIRST
            if entry.get("hash") != _digest(entry) or entry.get("seq") != number:
                raise _broken(path, "was changed, or an entry before it was removed")
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
            TransientError: if another process wrote this entry first.
        """
        before = self.entries()
        entry = {
            **facts,
            "seq": len(before),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "parent_hash": before[-1]["hash"] if before else _FIRST,
        }
        entry["hash"] = _digest(entry)
        path = make_dir(self.directory) / f"{entry['seq']:06d}.json"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(canonical(entry))
        try:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            # A link is made only if the name is free, and always to a complete file.
            os.link(temporary, path)
        except FileExistsError:
            raise TransientError(f"{path}: another promotion wrote it first; rerun") from None
        finally:
            temporary.unlink(missing_ok=True)
        return entry


def _read(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError):
        raise _broken(path, "is not JSON") from None
    if not isinstance(entry, dict):
        raise _broken(path, "is not a ledger entry")
    return entry


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def _broken(path: Path, message: str) -> IntegrityError:
    fix = "Restore the ledger from a backup; promotion stays blocked until it verifies."
    return IntegrityError(Problem(str(path), message, fix))
