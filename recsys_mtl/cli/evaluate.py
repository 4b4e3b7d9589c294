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
    return Result([*tasks_table(job), f"Predictions: {evaluation.dir}"], data)


def point_values(tasks: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Metric values without their errors."""
    return {task: {m: e["value"] for m, e in by.items()} for task, by in tasks.items()}


def tasks_table(job: Job) -> list[str]:
    """One row per task: rows, AUC with its 95 % interval, oracle AUC where known, calibration."""
    tasks = read_json(job.evaluated, "metrics.json")["tasks"]
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


def _interval(estimate: dict[str, Any]) -> str:
    value, se = estimate["value"], estimate["se"]
    if value is None or se is None:
        return str(estimate.get("reason") or "-")
    return f"{value - _Z95 * se:.4f} to {value + _Z95 * se:.4f}"
