"""The survival label in a report: who stops first, how many stop, and how sure the numbers are."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recsys_mtl.metrics.clusters import quantile
from recsys_mtl.reports.survival_charts import bins_chart, ratio_chart
from recsys_mtl.reports.tables import table

Report = Mapping[str, Any]
"""JSON values."""

_SUBSETS = {"all": "all rows", "top_sales": "top quarter of sales"}
_SPANS = {"short": "short", "long": "long", "overall": "overall"}
_FEW = 0.5
"""Expected stops below which an interval without stops is not shown."""


def survival_section(report: Report) -> str:
    """The section on the survival label; nothing without one.

    Args:
        report: `survival.json`.
    """
    if not report:
        return ""
    parts = [
        f"<h2>Survival: {escape(report['label'])}</h2>{_summary(report)}",
        f"<h3>Who is stopped first</h3>{_concordance(report)}",
        f"<h3>Stops by cause and age</h3>{_ratios(report)}",
        f"<h3>Curves against one curve for all</h3>{_brier(report['brier'])}",
        f"<h3>D-calibration</h3>{_d_calibration(report['d_calibration'])}",
        f"<h3>Stops within days</h3>{_calibration(report['calibration'])}",
    ]
    return "\n".join(parts)


def interval(estimate: Report, digits: int = 3, low: float = -1e9, high: float = 1e9) -> str:
    """Value with its 95 % interval, cut to [low, high], or why there is none.

    Args:
        estimate: value, se, n_clusters; reason where undefined.
        digits: after the point.
        low: least possible value.
        high: largest possible value.
    """
    value, se = estimate["value"], estimate["se"]
    if value is None:
        return str(estimate.get("reason") or "-")
    if se is None:
        return f"{value:.{digits}f}"
    reach = quantile(0.975, estimate["n_clusters"]) * se
    bounds = max(value - reach, low), min(value + reach, high)
    return f"{value:.{digits}f} [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def _summary(report: Report) -> str:
    figures = report["subsets"]["all"]
    ratio = interval(figures["observed_over_expected"], 2, low=0)
    beyond = report["beyond_grid"]
    text = (
        f"{report['rows']:,} rows of creatives at landmark days, {figures['stops']:,} stops, "
        f"{figures['expected']:,.1f} expected on their days at risk: observed over expected "
        f"{ratio}. 1.2 means that there were 20 % more stops than predicted. The likelihood costs "
        f"{interval(report['nll'], 4)} nats per row; less is better. Brackets are 95 % intervals; "
        "rows of one cluster (the source's `group`) are treated as dependent."
    )
    if beyond:
        text += f" {beyond:,} rows are older than the model's grid and are left out of the rest."
    return f"<p>{escape(text)}</p>"


def _concordance(report: Report) -> str:
    boundary = report["boundary"]
    text = (
        "Of two rows with the same landmark of which one is known to have stopped first: how often "
        "its risk was the higher one. 0.5 is chance, 1 is a perfect order; equal risks count one "
        f"half, and two stops on one day are no pair. Short: rows before day {boundary}, followed "
        f"to day {boundary - 1}. Long: rows from day {boundary} on. Uno's C undoes the censoring "
        "that training rows had; the time-dependent C (Antolini) compares the curves on the day of "
        "the stop. A C near 0.9 is a reason to look for a leak."
    )
    rows = []
    for subset, figures in report["subsets"].items():
        for span, kinds in figures["c"].items():
            harrell = kinds["harrell"]
            counts = [f"{harrell[k]:,}" for k in ("n", "n_pos")] + [f"{harrell.get('pairs', 0):,}"]
            cells = [interval(kinds[k], 3, 0, 1) for k in ("harrell", "uno", "antolini")]
            rows.append([f"{_SUBSETS[subset]}, {_SPANS[span]}", *counts, *cells])
    header = ["rows of", "rows", "stops", "pairs", "C (Harrell)", "C (Uno)", "C (time-dependent)"]
    ages = [
        [age, f"{c['n']:,}", f"{c['n_pos']:,}", f"{c['pairs']:,}", interval(c, 3, 0, 1)]
        for age, c in report["concordance"].items()
    ]
    by_age = table(["landmark", "rows", "stops", "pairs", "C (Harrell)"], ages) if ages else ""
    return f"<p>{escape(text)}</p>{table(header, rows)}{by_age}"


def _ratios(report: Report) -> str:
    cells = [c for c in report["observed_over_expected"] if c["observed"] or c["expected"] >= _FEW]
    text = (
        "Stops that were seen over stops that the hazards promised, on the same days at risk. A "
        "bar that does not reach 1 means that probabilities there are too low (right of 1) or too "
        "high (left of 1), however well they are ordered. Not shown: no stop seen and fewer than "
        f"{_FEW:g} expected."
    )
    rows = [
        [
            _cell_name(c),
            f"{c['observed']:,}",
            f"{c['expected']:,.1f}",
            f"{c['ratio']:.2f} [{c['low']:.2f}, {c['high']:.2f}]"
            if c["ratio"] is not None
            else "-",
        ]
        for c in cells
    ]
    figure = ratio_chart([(_cell_name(c), c) for c in cells if c["ratio"] is not None])
    header = ["cause and days", "observed", "expected", "observed / expected"]
    return f'<p>{escape(text)}</p><div class="figure">{figure}</div>{table(header, rows)}'


def _cell_name(cell: Report) -> str:
    first, last = cell["from_day"], cell["to_day"] - 1
    days = f"day {first}" if first == last else f"days {first} to {last}"
    return f"{cell['cause']}, {days}"


def _brier(brier: Report) -> str:
    text = (
        "Brier score: the mean squared error of P(alive), over rows that were to be followed so "
        "long. Kaplan-Meier is the curve of all training rows, the same for every creative of an "
        "age: what a model without features says. A difference below 0 means that the model is "
        f"better. {brier['lost_early']:,} rows were lost before their planned end (as by a pause) "
        "and count while they were seen."
    )
    days = brier["integrated"]["days"]
    named = {f"after {d} days": v for d, v in brier["horizons"].items()}
    named[f"mean of days 1 to {days}"] = brier["integrated"]
    rows = [
        [
            name,
            f"{scores['rows']:,}",
            *(interval(scores[key], 4) for key in ("model", "kaplan_meier", "difference")),
        ]
        for name, scores in named.items()
    ]
    header = ["", "rows on the last day", "model", "Kaplan-Meier", "difference"]
    return f"<p>{escape(text)}</p>{table(header, rows)}"


def _d_calibration(found: Report) -> str:
    text = (
        "Where on its own curve each creative stopped; who is still alive is spread over what is "
        "left of its curve. If the curves are right, every tenth holds 10 %: too much on the left "
        "means that creatives live longer than predicted, too much on the right that they are "
        "stopped sooner. "
        f"{found['creatives']:,} creatives, each by its first row; the largest distance from 10 % "
        f"is {found['largest_deviation']:.1%}, and chance alone makes the bars at least as uneven "
        f"with probability {found['p_value']:.3f}. With very many rows that probability is always "
        "near 0: read the distance."
    )
    return f'<p>{escape(text)}</p><div class="figure">{bins_chart(found["bins"])}</div>'


def _calibration(calibration: Report) -> str:
    text = (
        "P(stop within so many days of the row), its mean, against the share that stopped by the "
        "curve of these rows (Aalen-Johansen). Equal is calibrated; a ratio above 1 means more "
        "stops than predicted."
    )
    groups = {"all": calibration["all"]}
    for feature, values in calibration["slices"].items():
        groups |= {f"{feature} {value}": by_days for value, by_days in values.items()}
    rows = [
        row
        for name, by_days in groups.items()
        for days, cell in by_days.items()
        for row in _horizon_rows(name, days, cell, with_causes=name == "all")
    ]
    header = ["rows of", "days", "rows", "predicted", "observed", "observed / predicted"]
    return f"<p>{escape(text)}</p>{table(header, rows)}"


def _horizon_rows(name: str, days: str, cell: Report, with_causes: bool) -> list[Sequence[str]]:
    count = f"{cell['rows']:,}"
    if "predicted" not in cell:
        return [[name, days, count, "-", str(cell["reason"]), "-"]]
    shown = {name: cell}
    if with_causes:
        shown |= {f"{name}, {cause}": part for cause, part in cell["causes"].items()}
    return [[label, days, count, *_shares(part)] for label, part in shown.items()]


def _shares(cell: Report) -> list[str]:
    predicted, observed, se = (cell[k] for k in ("predicted", "observed", "se"))
    error = "" if se is None else f" (s.e. {se:.3f})"
    ratio = f"{observed / predicted:.2f}" if predicted else "-"
    return [f"{predicted:.3f}", f"{observed:.3f}{error}", ratio]
