"""How benchmarks print and keep what they measured."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PEERS = ("lifelines", "scikit-survival", "pycox")
"""Libraries of `make oracles`."""


def interleaved(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measurements of all cases, round by round, so that drift of the machine hits each alike."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, measure in cases.items():
            found[name].append(measure())
    return found


def report(
    name: str,
    unit: str,
    found: dict[str, list[float]],
    base: str | Mapping[str, str],
    *,
    is_kept: bool,
) -> None:
    """What `show` prints, and the JSON file of it, which a quick run must not replace."""
    rows, ratios = show(unit, found, base)
    if not is_kept:
        return
    record = {"machine": machine(), "rows": rows, "ratios": ratios}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def show(
    unit: str, found: dict[str, list[float]], base: str | Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Print medians, ranges, and ratios of the same round.

    Args:
        unit: of the measurements.
        found: of `interleaved`.
        base: the case that all are divided by, or that of each case that is divided by one.

    Returns:
        A row per case, and the ratios.
    """
    rows, ratios = [], {}
    bases = dict.fromkeys(found, base) if isinstance(base, str) else base
    for case, values in found.items():
        middle = statistics.median(values)
        spread = [min(values), max(values)]
        rows.append({"case": case, "metric": unit, "value": middle, "unit": unit, "spread": spread})
        print(f"{case:24} {middle:12,.0f} {unit}  [{spread[0]:,.0f}, {spread[1]:,.0f}]")
    for case, other in bases.items():
        shares = [v / b for v, b in zip(found[case], found[other], strict=True)]
        ratios[f"{case} / {other}"] = statistics.median(shares)
    for pair, ratio in ratios.items():
        print(f"{pair:40} {ratio:.2f}")
    return rows, ratios


def machine() -> dict[str, Any]:
    """What the numbers depend on; the load tells whether others worked on it too."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchrec", "fbgemm-gpu-cpu", "pyarrow")},
        **{name: found for name in _PEERS if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
