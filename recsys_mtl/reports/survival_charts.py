"""Figures of the survival label as inline SVG with alt text; equal inputs give equal bytes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

from recsys_mtl.reports.charts import COLOURS

_GREY, _INK = "#808080", "#1a1a1a"
_LABEL_W, _PLOT_W, _ROW_H, _FOOT_H = 200, 360, 20, 24
_TICKS = (0.25, 0.5, 1.0, 2.0, 4.0)
_BIN_W, _BIN_H, _BIN_LEFT = 44, 120, 44


def ratio_chart(cells: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Observed over expected, a dot with its interval in each row, on a log scale around 1.

    What lies beyond the scale stops at its edge.

    Args:
        cells: name and {ratio, low, high} of each.
    """
    height = _ROW_H * len(cells) + _FOOT_H
    bottom = _ROW_H * len(cells)
    ticks = [
        f'<line x1="{_x(t)}" y1="0" x2="{_x(t)}" y2="{bottom}" stroke="{_GREY}" '
        f'stroke-width="{1.5 if t == 1 else 0.5}"/>'
        f'<text x="{_x(t)}" y="{bottom + 16}" text-anchor="middle">{t:g}</text>'
        for t in _TICKS
    ]
    rows = [_ratio_row(k, name, cell) for k, (name, cell) in enumerate(cells)]
    alt = "Observed over expected stops with 95 % intervals: " + "; ".join(
        f"{name} {cell['ratio']:.2f}" for name, cell in cells
    )
    return _svg(alt, _LABEL_W + _PLOT_W + 20, height, "".join(ticks + rows))


def bins_chart(bins: Sequence[float]) -> str:
    """Share of the creatives in each part of the predicted survival, from 0 up; a line where even.

    Args:
        bins: shares, which sum to 1.
    """
    top = max(*bins, 2 / len(bins))
    even = _BIN_H * (1 - 1 / len(bins) / top)
    bars = []
    for k, share in enumerate(bins):
        height = _BIN_H * share / top
        x = _BIN_LEFT + _BIN_W * k
        bars.append(
            f'<rect x="{x}" y="{_BIN_H - height:.1f}" width="{_BIN_W - 4}" height="{height:.1f}" '
            f'fill="{COLOURS[0]}"/><text x="{x + _BIN_W // 2 - 2}" y="{_BIN_H + 14}" '
            f'text-anchor="middle">{k / len(bins):.1f}</text>'
        )
    width = _BIN_LEFT + _BIN_W * len(bins)
    line = (
        f'<line x1="{_BIN_LEFT}" y1="{even:.1f}" x2="{width}" y2="{even:.1f}" stroke="{_INK}" '
        f'stroke-dasharray="4 3"/><text x="{_BIN_LEFT - 4}" y="{even + 4:.1f}" '
        f'text-anchor="end">{1 / len(bins):.0%}</text>'
    )
    alt = "Share of creatives by predicted survival at the stop: " + ", ".join(
        f"{b:.3f}" for b in bins
    )
    return _svg(alt, width + 10, _BIN_H + 20, "".join([*bars, line]))


def _ratio_row(row: int, name: str, cell: Mapping[str, Any]) -> str:
    y = _ROW_H * row + _ROW_H // 2
    low, ratio, high = (_x(cell[key]) for key in ("low", "ratio", "high"))
    return (
        f'<text x="{_LABEL_W - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        f'<line x1="{low}" y1="{y}" x2="{high}" y2="{y}" stroke="{COLOURS[0]}" stroke-width="3"/>'
        f'<circle cx="{ratio}" cy="{y}" r="5" fill="{COLOURS[1]}"/>'
    )


def _x(ratio: float) -> float:
    """Place of a ratio, to a tenth of a pixel."""
    least, most = _TICKS[0], _TICKS[-1]
    inside = min(max(ratio, least), most)
    return round(_LABEL_W + _PLOT_W * log(inside / least) / log(most / least), 1)


def _svg(alt: str, width: int, height: int, body: str) -> str:
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">{body}</svg>'
    )
