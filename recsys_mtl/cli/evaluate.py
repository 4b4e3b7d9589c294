"""`recsys-mtl evaluate`."""

from typing import Any

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude, table
from recsys_mtl.cli.stages import Job, read_json

_Z95 = 1.959964


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the holdout with candidate and champion, and measure with standard errors.

    Example: recsys-mtl evaluate pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _evaluate(Job.open(pipeline, overrides, interval_end, quiet)))


def _evaluate(job: Job) -> Result:
    evaluation, champion = job.evaluated, job.champion_evaluated
    data = {
        "artifact": str(evaluation.dir),
        "champion_artifact": str(champion.dir) if champion else None,
        "metrics": point_values(read_json(evaluation, "metrics.json")["tasks"]),
    }
    lines = [*tasks_table(job), *survival_lines(job), f"Predictions: {evaluation.dir}"]
    if job.loaded.pipeline.creatives is not None:
        data["survival"] = read_json(job.survival_evaluated, "survival.json")
    return Result(lines, data)


def point_values(tasks: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Metric values without their errors."""
    return {task: {m: e["value"] for m, e in by.items()} for task, by in tasks.items()}


def survival_lines(job: Job) -> list[str]:
    """What was measured of the survival label; nothing without one."""
    if job.loaded.pipeline.creatives is None:
        return []
    found = read_json(job.survival_evaluated, "survival.json")
    figures, brier = found["subsets"]["all"], found["brier"]["integrated"]
    ratio = figures["observed_over_expected"]
    spans = [f"{span} {_with_interval(c['harrell'])}" for span, c in figures["c"].items()]
    days, model, marginal = (brier[k] for k in ("days", "model", "kaplan_meier"))
    return [
        *([""] if job.loaded.layout.tasks else []),
        f"{found['label']}: {found['rows']:,} rows, {found['stops']:,} stops, "
        f"{figures['expected']:,.1f} expected (observed over expected {_with_interval(ratio)}), "
        f"{found['nll']['value']:.4f} nats per row",
        f"C: {', '.join(spans)}",
        f"Brier score, mean of days 1 to {days}: {_number(model['value'])}, "
        f"Kaplan-Meier {_number(marginal['value'])}",
    ]


def tasks_table(job: Job) -> list[str]:
    """One row per task: rows, AUC with its 95 % interval, oracle AUC where known, calibration."""
    tasks = read_json(job.evaluated, "metrics.json")["tasks"]
    if not tasks:
        return []
    oracle: dict[str, Any] = {}
    if (job.evaluated.dir / "oracle.json").exists():
        oracle = read_json(job.evaluated, "oracle.json")
    header = ["task", "rows", "positives", "AUC", "95 % interval", "calibration"]
    header += ["expected AUC", "oracle AUC"] if oracle else []
    rows = []
    for task, metrics in tasks.items():
        auc, ratio = metrics["auc"], metrics["calibration_ratio"]
        cells = [task, f"{auc['n']:,}", f"{auc['n_pos']:,}", _number(auc["value"]), _interval(auc)]
        cells.append(_number(ratio["value"], 3))
        for key in ("expected_auc", "oracle_auc") if oracle else ():
            cells.append(_number(oracle[task][key]))
        rows.append(cells)
    return table(header, rows)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _with_interval(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return f"- ({estimate['reason']})"
    return f"{_number(estimate['value'], 3)} [{_interval(estimate, 3)}]"


def _interval(estimate: dict[str, Any], digits: int = 4) -> str:
    value, se = estimate["value"], estimate["se"]
    if value is None or se is None:
        return str(estimate.get("reason") or "-")
    return f"{value - _Z95 * se:.{digits}f} to {value + _Z95 * se:.{digits}f}"
