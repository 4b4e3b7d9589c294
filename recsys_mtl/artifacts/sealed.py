"""JSON records that carry their own digest, so that one flipped bit is noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.spec.fingerprint import canonical

__all__ = ["canonical", "seal", "unseal"]

_SEAL = "sha256"


def seal(record: Mapping[str, Any]) -> bytes:
    """Canonical bytes of the record plus the sha256 of those bytes under the key `sha256`."""
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return canonical({**record, _SEAL: digest}) + b"\n"


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """The record behind `seal`.

    Args:
        data: the bytes of the file.
        path: where they came from, for the message.

    Raises:
        IntegrityError: unless `data` is byte for byte what `seal` wrote.
    """
    try:
        record = json.loads(data)
        record.pop(_SEAL)
        intact = seal(record) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise IntegrityError(
            Problem(
                str(path),
                "the record does not match its own sha256; it was cut or changed after it was"
                " written",
                "Move its directory away and rerun the stage that made it.",
                "D022",
            )
        )
    return dict(record)
