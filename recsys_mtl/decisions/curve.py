"""A creative's survival curve as inline SVG with alt text."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from recsys_mtl.registry.read_outs import CURVE_DAYS, curve_column
from recsys_mtl.reports.charts import COLOURS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 300, 90, 34, 16


@dataclass(frozen=True, slots=True)
class Curve:
    """Days from now, and the probability of being alive after each."""

    days: tuple[int, ...]
    alive: tuple[float, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any], label: str) -> "Curve":
        """Curve of a row of scores, from today on."""
        values = [float(row[curve_column(label, days)]) for days in CURVE_DAYS]
        return cls((0, *CURVE_DAYS), (1.0, *values))


def survival_curve(curve: Curve, name: str, horizon: int) -> str:
    """The curve with a mark at the horizon."""
    last = curve.days[-1]

    def x(days: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 4) * days / last

    def y(alive: float) -> float:
        return 4 + (_HEIGHT - _BOTTOM - 4) * (1 - alive)

    points = " ".join(
        f"{x(d):.1f},{y(s):.1f}" for d, s in zip(curve.days, curve.alive, strict=True)
    )
    told = [f"{s:.0%} after {d}" for d, s in zip(curve.days, curve.alive, strict=True) if d]
    alt = f"Chance that {name} is still running: {', '.join(told)} days"
    line = 'stroke="#808080" stroke-width="1"'
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="10"><line x1="{_LEFT}" y1="{y(0):.1f}" x2="{_WIDTH - 4}" y2="{y(0):.1f}" '
        f'{line}/><line x1="{_LEFT}" y1="4" x2="{_LEFT}" y2="{y(0):.1f}" {line}/>'
        f'<line x1="{x(horizon):.1f}" y1="4" x2="{x(horizon):.1f}" y2="{y(0):.1f}" {line} '
        f'stroke-dasharray="3 3"/><polyline points="{points}" fill="none" stroke="{COLOURS[0]}" '
        f'stroke-width="2"/><text x="2" y="12">100 %</text><text x="14" y="{y(0):.1f}">0 %</text>'
        f'<text x="{x(horizon):.1f}" y="{_HEIGHT - 4}">day {horizon}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 4}" text-anchor="end">day {last}</text></svg>'
    )
