"""One self-contained HTML page per evaluation: the verdict in words, then the numbers behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from recsys_mtl.reports.charts import calibration_chart, training_chart
from recsys_mtl.reports.experts import experts_section
from recsys_mtl.reports.page import banner, page
from recsys_mtl.reports.survival import survival_section
from recsys_mtl.reports.tables import table

_Z95 = 1.959964
_TONE = {"PROMOTE": "#009e73", "HOLD": "#e69f00", "REFUSE": "#d55e00", "INTEGRITY": "#b00020"}
_MEANING = {
    "PROMOTE": "The candidate may replace the champion.",
    "HOLD": "There is not enough evidence to decide; the champion stays.",
    "REFUSE": "The candidate is not good enough; the champion stays.",
    "INTEGRITY": "Something is not what was recorded; nothing may be promoted.",
}


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Everything a report shows; plain values read from artifacts, nothing recomputed."""

    title: str
    window: str
    """The data window in words."""
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Task to metric to {value, se, n, n_pos, n_clusters}."""
    slices: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]]
    """Feature to value to task to metric to estimate."""
    calibration: Mapping[str, Sequence[Mapping[str, float]]]
    """Task to reliability bins."""
    decision: Mapping[str, Any] | None
    """`decision.json`; None before the gate."""
    history: Mapping[str, Any]
    """`history.json` of training."""
    lineage: Mapping[str, str]
    """Fingerprints and versions, shown as they are."""
    command: str
    """Command that makes the evaluated model again."""
    oracle: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to {oracle_auc, expected_auc, regret, calibration}, in simulated worlds."""
    experts: Mapping[str, Any] = field(default_factory=dict)
    """`experts.json`; empty for towers without gates."""
    survival: Mapping[str, Any] = field(default_factory=dict)
    """`survival.json`; empty without a survival label."""
    above_parent: Mapping[str, float] = field(default_factory=dict)
    """Task with a parent to the share of rows on which it is predicted above that."""
    warnings: Sequence[str] = ()
    """What the files make one think twice about."""


def render_report(report: ReportInput) -> str:
    """The page as text; equal inputs give equal bytes, and no part is fetched from elsewhere."""
    parts = [
        f"<h1>{escape(report.title)}</h1><p>Holdout: {escape(report.window)}</p>",
        _banner(report.decision),
        *(f"<p>Warning: {escape(text)}</p>" for text in report.warnings),
        _tasks_table(report),
        _oracle_table(report.oracle),
        _checks_table(report.decision),
        _calibration_figure(report),
        survival_section(report.survival),
        "<h2>Training</h2>",
        f'<div class="figure">{_training_figure(report.history)}</div>',
        experts_section(report.experts),
        *_slice_tables(report.slices),
        "<h2>Lineage</h2>",
        table(["what", "value"], [[k, v] for k, v in sorted(report.lineage.items())]),
        f"<p>To make this model again:</p><pre>{escape(report.command)}</pre>",
    ]
    return page(report.title, parts)


def _banner(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        return "<p>The gate has not looked at this model yet.</p>"
    verdict = str(decision["verdict"])
    sentences = [*decision["reasons"], *decision["notes"]]
    return banner(_TONE[verdict], verdict, _MEANING[verdict], sentences)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(estimate: Mapping[str, Any], digits: int = 4) -> str:
    """Value with its 95 % interval, or why there is none."""
    value, se = estimate.get("value"), estimate.get("se")
    if value is None:
        return str(estimate.get("reason") or "-")
    if se is None:
        return _number(value, digits)
    return f"{value:.{digits}f} [{value - _Z95 * se:.{digits}f}, {value + _Z95 * se:.{digits}f}]"


def _tasks_table(report: ReportInput) -> str:
    if not report.metrics:
        return ""
    names = list(dict.fromkeys(m for task in report.metrics.values() for m in task))
    rows = []
    for task, metrics in report.metrics.items():
        first = next(iter(metrics.values()))
        counts = [f"{first.get(k, 0):,}" for k in ("n", "n_pos", "n_clusters")]
        rows.append(
            [task, *counts, *(_interval(metrics[m]) if m in metrics else "-" for m in names)]
        )
    note = "<p>Brackets are 95 % intervals; rows of one user are treated as dependent.</p>"
    header = ["task", "rows", "positives", "users", *names]
    for task, share in report.above_parent.items():
        note += f"<p>{escape(task)} is predicted above its parent on {share:.2%} of rows.</p>"
    return f"<h2>Tasks</h2>{table(header, rows)}{note}"


def _calibration_figure(report: ReportInput) -> str:
    if not report.metrics:
        return ""
    chart = calibration_chart(report.calibration)
    return f'<h2>Calibration</h2><div class="figure">{chart}</div>'


def _oracle_table(oracle: Mapping[str, Mapping[str, float]]) -> str:
    if not oracle:
        return ""
    header = ["task", "oracle AUC", "model's expected AUC", "regret", "predicted / true rate"]
    keys = ("oracle_auc", "expected_auc", "regret", "calibration")
    rows = [[task, *(_number(values[k]) for k in keys)] for task, values in oracle.items()]
    text = (
        "<h2>Against the oracle</h2><p>This world is simulated, so the true probability of every "
        "row is known. The oracle is the best AUC any model can reach here.</p>"
    )
    return text + table(header, rows)


def _checks_table(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        return ""
    rows = [
        f"<tr><td>{escape(str(c['outcome']))}</td><td>{escape(c['class'])}</td>"
        f'<td class="words">{escape(c["sentence"])}</td></tr>'
        for c in decision["checks"]
    ]
    head = "<tr><th>outcome</th><th>class</th><th>sentence</th></tr>"
    return f"<h2>Checks of the gate</h2><table>{head}{''.join(rows)}</table>"


def _training_figure(history: Mapping[str, Any]) -> str:
    train = {task: [tuple(p) for p in points] for task, points in history["train"].items()}
    valid = {task: [tuple(p) for p in points] for task, points in history["valid"].items()}
    return training_chart(train, valid)


def _slice_tables(slices: Mapping[str, Any]) -> list[str]:
    parts = []
    for feature, values in slices.items():
        tasks = list(dict.fromkeys(task for by_task in values.values() for task in by_task))
        rows = []
        for value, by_task in values.items():
            some = next(iter(by_task.values())).get("auc", {})
            cells = [
                _interval(by_task[t].get("auc", {}), 3) if t in by_task else "-" for t in tasks
            ]
            rows.append([value, f"{some.get('n', 0):,}", *cells])
        parts.append(f"<h2>AUC by {escape(feature)}</h2>")
        parts.append(table([feature, "rows", *tasks], rows))
    return parts
