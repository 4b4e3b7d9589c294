"""Health of a tower's experts: alarms first, then a heat map and figures for each layer."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recsys_mtl.reports.tables import table

_CELL_W, _CELL_H, _LABEL_W, _HEAD_H = 52, 22, 150, 110
_FULL = (0, 114, 178)
_VERDICT = {
    "confirmed": "confirmed",
    "not confirmed": "not confirmed: do not act on it",
    "needs retraining": "only a retrained model can tell",
    "not tested": "not tested",
}
Gate = Mapping[str, Any]


def experts_section(report: Mapping[str, Any]) -> str:
    """The section on experts; nothing for towers without gates.

    Args:
        report: `experts.json`.
    """
    if not report:
        return ""
    layers = list(dict.fromkeys(gate["layer"] for gate in report["gates"]))
    parts = [f"<h2>Experts</h2><p>On {report['rows']:,} rows of the holdout.</p>"]
    parts.append(_alarms(report["alarms"]))
    for layer in layers:
        gates = [gate for gate in report["gates"] if gate["layer"] == layer]
        experts = [expert for expert in report["experts"] if expert["layer"] == layer]
        parts.append(f"<h3>Layer {escape(layer)}</h3><p>{escape(_meaning(experts))}</p>")
        parts.append(f'<div class="figure">{heat_map(layer, gates)}</div>')
        parts.append(_figures(experts))
    return "\n".join(parts)


def heat_map(layer: str, gates: Sequence[Gate]) -> str:
    """Mean effective weight of experts, one row per gate; grey where a gate has no such slot.

    Args:
        layer: its name.
        gates: of that layer, each with reader and effective (expert to weight).
    """
    experts = list(dict.fromkeys(expert for gate in gates for expert in gate["effective"]))
    width = _LABEL_W + _CELL_W * len(experts) + 100
    height = _HEAD_H + _CELL_H * len(gates) + 4
    alt = f"Layer {layer}: mean weight of each expert (columns) for each reader (rows)"
    columns = [_column(x, name) for x, name in enumerate(experts)]
    cells = [
        _cell(x, y, gate["effective"].get(expert))
        for y, gate in enumerate(gates)
        for x, expert in enumerate(experts)
    ]
    rows = [
        f'<text x="{_LABEL_W - 6}" y="{_HEAD_H + _CELL_H * y + 15}" text-anchor="end">'
        f"{escape(gate['reader'])}</text>"
        for y, gate in enumerate(gates)
    ]
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f"{''.join(columns + rows + cells)}</svg>"
    )


def _column(x: int, name: str) -> str:
    left, bottom = _LABEL_W + _CELL_W * x + _CELL_W // 2, _HEAD_H - 6
    turn = f"rotate(-40 {left} {bottom})"
    return f'<text x="{left}" y="{bottom}" transform="{turn}">{escape(name)}</text>'


def _cell(x: int, y: int, weight: float | None) -> str:
    left, top = _LABEL_W + _CELL_W * x, _HEAD_H + _CELL_H * y
    box = f'x="{left}" y="{top}" width="{_CELL_W - 1}" height="{_CELL_H - 1}"'
    if weight is None:
        return f'<rect {box} fill="#e4e4e4"/>'
    depth = min(weight, 1.0)
    colour = "#" + "".join(f"{round(255 + (full - 255) * depth):02x}" for full in _FULL)
    ink = "#ffffff" if depth > 0.5 else "#1a1a1a"
    return (
        f'<rect {box} fill="{colour}"/><text x="{left + _CELL_W // 2}" y="{top + 15}" '
        f'text-anchor="middle" fill="{ink}">{weight:.2f}</text>'
    )


def _meaning(experts: Sequence[Mapping[str, Any]]) -> str:
    most, least = (f(experts, key=lambda e: e["load"]) for f in (max, min))
    return (
        "Each row shows how one gate weighs what it reads, so a column that is dark in one row "
        f"only is an expert that serves one reader; {most['expert']} counts most (mean weight "
        f"{most['load']:.2f}), {least['expert']} least ({least['load']:.2f})."
    )


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> str:
    if not alarms:
        return "<p>Nothing is wrong with them: no threshold is passed.</p>"
    order = {"alarm": 0, "warn": 1}
    rows = [
        [
            alarm["level"],
            alarm["kind"],
            alarm["layer"],
            alarm["sentence"],
            f"{alarm['intervention']}: {_VERDICT[alarm['verdict']]}"
            if alarm["intervention"]
            else _VERDICT[alarm["verdict"]],
        ]
        for alarm in sorted(alarms, key=lambda alarm: order[alarm["level"]])
    ]
    return table(["level", "kind", "layer", "what it means", "test"], rows, words={1, 3, 4})


def _figures(experts: Sequence[Mapping[str, Any]]) -> str:
    header = ["expert", "zero outputs", "dead units", "rms", "load", "largest task's share"]
    keys = ("zero_share", "dead_share", "rms", "load", "occupancy")
    rows = [
        [e["expert"], *("-" if e[key] is None else f"{e[key]:.2f}" for key in keys)]
        for e in experts
    ]
    return table(header, rows)
