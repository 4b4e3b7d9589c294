"""How benchmarks print and keep what they measured."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measurements of all cases, round by round, so that drift of the machine hits each alike."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, measure in cases.items():
            found[name].append(measure())
    return found


def keep(name: str, unit: str, found: dict[str, list[float]], base: str) -> None:
    """Print medians, ranges and ratios to `base` of the same round, and write the JSON file."""
    rows, ratios = [], {}
    for case, values in found.items():
        middle = statistics.median(values)
        spread = [min(values), max(values)]
        rows.append({"case": case, "metric": unit, "value": middle, "unit": unit, "spread": spread})
        shares = [v / b for v, b in zip(values, found[base], strict=True)]
        ratios[f"{case} / {base}"] = statistics.median(shares)
        print(f"{case:24} {middle:12,.0f} {unit}  [{spread[0]:,.0f}, {spread[1]:,.0f}]")
    for pair, ratio in ratios.items():
        print(f"{pair:40} {ratio:.2f}")
    record = {"machine": machine(), "rows": rows, "ratios": ratios}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    names: Sequence[str] = ("torch", "torchrec", "fbgemm-gpu-cpu", "pyarrow")
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
