"""Fingerprints: sha256 over canonical JSON, equal for files that mean the same."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from recsys_mtl.spec.feature_spec import FeatureSpec


def canonical(obj: Any) -> bytes:
    """JSON with sorted keys and no spaces; models are dumped with their defaults filled in."""
    plain = obj.model_dump(mode="json") if isinstance(obj, BaseModel) else obj
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def fingerprint(obj: Any) -> str:
    """Hex sha256 of the canonical form."""
    return hashlib.sha256(canonical(obj)).hexdigest()


def spec_fp(spec: FeatureSpec) -> str:
    """Changes when anything in the spec changes."""
    return fingerprint(spec)


def input_fp(spec: FeatureSpec) -> str:
    """Changes when the model's contract changes; not with dates or quality bounds."""
    return fingerprint(spec.model_dump(mode="json", exclude={"split", "quality"}))
