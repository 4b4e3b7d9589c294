"""What was measured in all worlds, as tables and as a file of results."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtrit

from benchmarks.results import RESULTS, machine


@dataclass(frozen=True, slots=True)
class Bar:
    """A number and the limit that it has to keep."""

    what: str
    found: float
    at_most: float

    @property
    def is_met(self) -> bool:
        """Not above the limit."""
        return self.found <= self.at_most


@dataclass(slots=True)
class Results:
    """Rows by case and metric with one value per world, and bars."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, case: str, metric: str, values: Sequence[float], se: float | None = None) -> None:
        """Add a row.

        Args:
            case: what was measured.
            metric: its name.
            values: one per world.
            se: mean over worlds of the error from having a world's test rows and no others.
        """
        low, high = interval(values)
        row = {"case": case, "metric": metric, "unit": "fraction", "value": mean(values)}
        row |= {"spread": [min(values), max(values)], "interval": [low, high]}
        self.rows.append(row | {"values": list(values), "sampling_se": se})

    def row(self, case: str, metric: str) -> dict[str, Any]:
        """The row of a case and metric."""
        return next(r for r in self.rows if r["case"] == case and r["metric"] == metric)

    def keep(self) -> None:
        """Write `results/ads.json`."""
        bars = [
            {"bar": b.what, "found": b.found, "at_most": b.at_most, "met": b.is_met}
            for b in self.bars
        ]
        record = {"machine": machine(), "facts": self.facts, "rows": self.rows, "bars": bars}
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
        (RESULTS / "ads.json").write_text(text + "\n")

    def markdown(self) -> str:
        """Means and 95 % intervals over worlds, a table for each set of metrics; then the bars."""
        lines: list[str] = []
        shown: tuple[str, ...] = ()
        for case, found in cells_of(self.rows).items():
            if tuple(found) != shown:
                shown = tuple(found)
                head = " | ".join(["", *shown])
                lines += ["", f"|{head} |", "|---" * (len(shown) + 1) + "|"]
            lines.append("| " + " | ".join([case, *found.values()]) + " |")
        for bar in self.bars:
            verdict = "met" if bar.is_met else "missed"
            lines.append(f"{verdict}: {bar.what}: {bar.found:.4f}, at most {bar.at_most:.4f}")
        return "\n".join(lines)


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % t-interval of the mean over worlds; None with fewer than two."""
    if len(values) < 2:
        return None, None
    reach = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean(values) - reach, mean(values) + reach


def cells_of(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Means and intervals as text, by case and metric."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["case"], {})[row["metric"]] = _cell(row)
    return cells


def _cell(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    shown = f"{row['value']:.4f}"
    return shown if low is None else f"{shown} [{low:.4f}, {high:.4f}]"
