"""`recsys-mtl report`."""

from pathlib import Path

from recsys_mtl.cli.gate import FirstChampion
from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job, read_json


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    first_champion: FirstChampion = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the HTML page of the candidate's evaluation.

    Example: recsys-mtl report pipelines/short_video.yaml
    """

    def body() -> Result:
        job = Job.open(pipeline, overrides, interval_end, quiet)
        path = write_report(job, first_champion)
        return Result([f"Report: {path}"], {"report": str(path)})

    conclude(as_json, body)


def write_report(job: Job, first_champion: bool) -> Path:
    """Render the page from artifacts; returns its path."""
    from recsys_mtl.artifacts.commit import atomic_write, make_dir
    from recsys_mtl.reports.html import ReportInput, render_report

    evaluation = job.evaluated
    metrics = read_json(evaluation, "metrics.json")
    oracle, experts = (
        read_json(evaluation, name) if (evaluation.dir / name).exists() else {}
        for name in ("oracle.json", "experts.json")
    )
    has_survival = job.loaded.pipeline.creatives is not None
    survival = read_json(job.survival_evaluated, "survival.json") if has_survival else {}
    decision = None if job.candidate_is_champion else job.decide(first_champion)[0].as_json()
    meta = evaluation.meta
    lineage = {k: str(meta[k]) for k in ("bundle_sha", "input_fp", "data_fp", "holdout_fp")}
    lineage["version"] = job.candidate.version
    page = render_report(
        ReportInput(
            title=f"{job.loaded.pipeline.name} version {job.candidate.version}",
            window=_window(meta["min_time_us"], meta["max_time_us"], meta["rows"]),
            metrics=metrics["tasks"],
            slices=metrics["slices"],
            above_parent=metrics["above_parent"],
            calibration=read_json(evaluation, "calibration.json"),
            decision=decision,
            history=job.history,
            lineage=lineage,
            command=_command(job),
            warnings=[str(problem) for problem in job.loaded.warnings],
            oracle=oracle,
            experts=experts,
            survival=survival,
        )
    )
    folder = make_dir(job.loaded.home / job.loaded.pipeline.name / "reports")
    path = folder / f"version-{job.candidate.version}.html"
    atomic_write(path, page.encode())
    return path


def _window(first_us: int | None, last_us: int | None, rows: int) -> str:
    from datetime import UTC, datetime

    if first_us is None or last_us is None:
        return f"{rows:,} rows"
    first, last = (datetime.fromtimestamp(t / 1e6, UTC) for t in (first_us, last_us))
    return f"{rows:,} rows from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _command(job: Job) -> str:
    parts = ["recsys-mtl run", str(job.loaded.pipeline_path)]
    if job.interval_end:
        parts.append(f"--interval-end {job.interval_end}")
    parts += [origin for origin in job.loaded.origins.values() if origin.startswith("--set")]
    return " ".join(parts)
