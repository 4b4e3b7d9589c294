"""What was measured, as a table and as a file of results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from benchmarks.results import RESULTS, machine


@dataclass(frozen=True, slots=True)
class Bar:
    """A number and what it has to reach."""

    what: str
    found: float
    needed: float

    @property
    def is_met(self) -> bool:
        """At least what is needed."""
        return self.found >= self.needed


@dataclass(slots=True)
class Table:
    """Rows by case and metric, one value per seed where there is one."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def add(
        self, case: str, metric: str, values: Sequence[float | None], se: float | None = None
    ) -> None:
        """Add a row.

        Args:
            case: model and data.
            metric: its name.
            values: one per seed, or the one there is.
            se: error from having these test rows and no others, of the first value.
        """
        found = [float("nan") if value is None else value for value in values]
        row = {"case": case, "metric": metric, "value": mean(found), "unit": "fraction"}
        row |= {"spread": [min(found), max(found)], "values": found}
        row |= {"sd": stdev(found) if len(found) > 1 else None, "sampling_se": se}
        self.rows.append(row)

    def markdown(self) -> str:
        """The table as documentation shows it: means over seeds, and the bars."""
        metrics = list(dict.fromkeys(row["metric"] for row in self.rows))
        cells: dict[str, dict[str, str]] = {}
        for row in self.rows:
            cells.setdefault(row["case"], {})[row["metric"]] = _cell(row)
        lines = ["| " + " | ".join(["", *metrics]) + " |", "|" + "---|" * (len(metrics) + 1)]
        for case, found in cells.items():
            lines.append("| " + " | ".join([case, *(found.get(m, "") for m in metrics)]) + " |")
        for row in self.rows:
            if len(row["values"]) > 1:
                per_seed = " ".join(f"{value:.4f}" for value in row["values"])
                lines.append(f"{row['case']}, {row['metric']} per seed: {per_seed}")
        for bar in self.bars:
            verdict = "met" if bar.is_met else "missed"
            lines.append(f"{verdict}: {bar.what} is {bar.found:.4f}, needed {bar.needed:.4f}")
        return "\n".join(lines)

    def keep(self) -> None:
        """Write `results/survival_<name>.json`."""
        bars = [
            {"bar": b.what, "found": b.found, "needed": b.needed, "met": b.is_met}
            for b in self.bars
        ]
        record = {"machine": machine(), "rows": self.rows, "bars": bars}
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"survival_{self.name}.json"
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def _cell(row: dict[str, Any]) -> str:
    """Mean, standard deviation over seeds, and error of the test rows in parentheses."""
    shown = f"{row['value']:.4f}"
    shown += "" if row["sd"] is None else f" ± {row['sd']:.4f}"
    return shown + (f" (s.e. {row['sampling_se']:.4f})" if row["sampling_se"] else "")
