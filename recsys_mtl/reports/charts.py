"""Figures of the report as inline SVG with alt text; equal inputs give equal bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe-Ito: told apart by colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_GREY = "#808080"


def calibration_chart(bins_of: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Observed rate against mean prediction, one panel per task, with 95 % intervals.

    Args:
        bins_of: task to bins, each with mean_prob, rate, low and high.
    """
    figure, axes = _panels(len(bins_of))
    for axis, (task, bins) in zip(axes, bins_of.items(), strict=False):
        x = [b["mean_prob"] for b in bins]
        y = [b["rate"] for b in bins]
        below = [max(b["rate"] - b["low"], 0.0) for b in bins]
        above = [max(b["high"] - b["rate"], 0.0) for b in bins]
        top = max([*x, *y, 1e-6]) * 1.05
        axis.plot([0, top], [0, top], color=_GREY, linewidth=1, linestyle="--")
        axis.errorbar(x, y, yerr=[below, above], fmt="o", markersize=3, color=COLOURS[0])
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("predicted", fontsize=8)
        axis.set_ylabel("observed", fontsize=8)
    return _svg(figure, f"Calibration of {', '.join(bins_of)}: observed rate by predicted rate")


def training_chart(
    train: Mapping[str, Sequence[tuple[int, float]]],
    valid: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Loss over steps, one panel per task: training as a line, validation as points.

    Args:
        train: task to (step, loss).
        valid: task to (step, loss).
    """
    figure, axes = _panels(len(train))
    for axis, task in zip(axes, train, strict=False):
        axis.plot(*_xy(train[task]), color=COLOURS[0], linewidth=1, label="train")
        points = valid.get(task, ())
        axis.plot(*_xy(points), color=COLOURS[1], marker="o", markersize=3, label="validation")
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.set_ylabel("loss", fontsize=8)
        axis.legend(fontsize=7, frameon=False)
    return _svg(figure, f"Training and validation loss of {', '.join(train)} over steps")


def _xy(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]


def _panels(count: int) -> "tuple[Figure, list[Any]]":
    from matplotlib.figure import Figure

    columns = min(max(count, 1), 3)
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure", alt: str) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # A fixed salt keeps the ids inside the SVG, and so the report's bytes, equal between runs.
    with rc_context({"svg.hashsalt": "recsys_mtl", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    label = f'<svg role="img" aria-label="{escape(alt, quote=True)}"'
    return svg.replace("<svg", label, 1)
