"""`recsys-mtl doctor`: is this environment fit to run?"""

import importlib.metadata as metadata
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson
from recsys_mtl.cli.output import Result, conclude

_MIN_FREE_BYTES = 2 * 10**9


def command(
    home: Annotated[Path, typer.Option(help="Folder of all artifacts.")] = Path("out"),
    as_json: AsJson = False,
) -> None:
    """Check versions, disk and write permission; each failing line names its fix.

    Example: recsys-mtl doctor
    """
    conclude(as_json, lambda: _doctor(home))


def _doctor(home: Path) -> Result:
    checks = [_triple(), _fbgemm(), _disk(home), _writable(home), _threads()]
    failed = [name for name, ok, _ in checks if not ok]
    lines = [f"{name:<9} {'ok' if ok else 'FAIL':<5} {text}" for name, ok, text in checks]
    return Result(lines, {"failed": failed}, exit_code=2 if failed else 0)


def installed(name: str) -> str | None:
    """Version from metadata, without importing the package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _triple() -> tuple[str, bool, str]:
    """Fbgemm 1.X is built for torch 2.(X+5) and torchrec 1.X."""
    versions = {n: installed(n) for n in ("torch", "torchrec", "fbgemm-gpu-cpu")}
    shown = ", ".join(f"{n} {v or 'missing'}" for n, v in versions.items())
    if None in versions.values():
        return "versions", False, f"{shown}; run `make setup`"
    minor = {n: int(str(v).split(".")[1]) for n, v in versions.items()}
    fits = minor["torch"] - 5 == minor["torchrec"] == minor["fbgemm-gpu-cpu"]
    return "versions", fits, shown if fits else f"{shown} do not fit together; run `make setup`"


def _fbgemm() -> tuple[str, bool, str]:
    version = installed("fbgemm-gpu") or ""
    if version and not version.endswith("+cpu"):
        text = f"fbgemm-gpu {version} overwrites fbgemm-gpu-cpu; remove .venv and run `make setup`"
        return "fbgemm", False, text
    return "fbgemm", True, "CPU kernels"


def _existing(home: Path) -> Path:
    folder = home.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _disk(home: Path) -> tuple[str, bool, str]:
    free = shutil.disk_usage(_existing(home)).free
    ok = free >= _MIN_FREE_BYTES
    text = f"{free / 1e9:.1f} GB free below {home}"
    return "disk", ok, text if ok else f"{text}; free at least {_MIN_FREE_BYTES / 1e9:.0f} GB"


def _writable(home: Path) -> tuple[str, bool, str]:
    folder = _existing(home)
    ok = os.access(folder, os.W_OK)
    return "writable", ok, f"{folder}" if ok else f"{folder} is read-only; set `home` elsewhere"


def _threads() -> tuple[str, bool, str]:
    limit = os.environ.get("OMP_NUM_THREADS", "unset")
    return "threads", True, f"{os.cpu_count()} cores, OMP_NUM_THREADS {limit}"
