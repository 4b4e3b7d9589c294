"""The kept results of the ads benchmark as tables of a page."""

from collections.abc import Sequence
from typing import Any

from benchmarks.ads.table import cells_of

Record = dict[str, Any]
_SCOPES = ("short", "long", "overall")
_GAP = "C - oracle's"


def page(record: Record) -> str:
    """C of everybody, what each change makes of it, and the bars."""
    cells = cells_of(record["rows"])
    worlds = len(record["facts"]["creatives"])
    ranked = [case for case, found in cells.items() if f"overall {_GAP}" in found]
    changes = [case for case in cells if case.endswith(" - model")]
    buckets = {case: found for case, found in cells.items() if case.startswith("O/E")}
    head = f"{worlds} worlds; in brackets 95 % intervals over worlds."
    return "\n\n".join(
        [
            head,
            _table([case for case in ranked if not case.startswith("candidate")], cells, _c()),
            "Differences to the model, which is the shipped file (nats: lower is better):",
            _table(changes, cells, [f"{scope} C" for scope in _SCOPES] + ["nats per row"]),
            "Stops observed over expected:",
            _table(
                list(buckets), buckets, list(dict.fromkeys(m for c in buckets.values() for m in c))
            ),
            _bars(record["bars"]),
        ]
    )


def _c() -> list[str]:
    return [*(f"{scope} C" for scope in _SCOPES), *(f"{scope} {_GAP}" for scope in _SCOPES)]


def _table(cases: Sequence[str], cells: dict[str, dict[str, str]], metrics: Sequence[str]) -> str:
    lines = ["| | " + " | ".join(metrics) + " |", "|---|" + "---|" * len(metrics)]
    for case in cases:
        shown = " | ".join(cells[case].get(metric, "") for metric in metrics)
        lines.append(f"| {case.removesuffix(' - model')} | {shown} |")
    return "\n".join(lines)


def _bars(bars: Sequence[Record]) -> str:
    lines = ["| bar | found | at most | |", "|---|---|---|---|"]
    for bar in bars:
        verdict = "met" if bar["met"] else "**missed**"
        lines.append(f"| {bar['bar']} | {bar['found']:.4f} | {bar['at_most']:.4f} | {verdict} |")
    return "\n".join(lines)
