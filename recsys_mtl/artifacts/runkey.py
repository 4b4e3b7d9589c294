"""Run keys: the name of a result, made from everything the result depends on."""

import hashlib
from functools import cache
from pathlib import Path

import recsys_mtl
from recsys_mtl.artifacts.sealed import canonical


def run_key(stage: str, **parts: str) -> str:
    """Hex sha256 over the stage, its input fingerprints and the code version.

    Args:
        stage: verb that makes the artifact.
        parts: fingerprint of each input and of each output-relevant part of the configuration.
    """
    record = {"stage": stage, "parts": parts, "code": code_version()}
    return hashlib.sha256(canonical(record)).hexdigest()


@cache
def code_version() -> str:
    """Package version plus the sha256 of its Python files, e.g. `0.1.0+5f3a...` (64 hex digits)."""
    package = Path(recsys_mtl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{recsys_mtl.__version__}+{digest.hexdigest()}"


def stage_dir(home: Path, pipeline: str, stage: str, key: str) -> Path:
    """Directory of a stage's artifact: `home/<pipeline>/<stage>/<key[:16]>`."""
    return home / pipeline / stage / key[:16]
