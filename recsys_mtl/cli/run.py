"""`recsys-mtl run`: the whole pipeline."""

import json

from recsys_mtl.cli.evaluate import point_values, survival_lines, tasks_table
from recsys_mtl.cli.gate import FirstChampion, decision_lines
from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.promote import promote_candidate
from recsys_mtl.cli.report import write_report
from recsys_mtl.cli.stages import Job, read_json


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    first_champion: FirstChampion = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ingest, train, evaluate, gate, promote, score and report.

    Exit codes: 0 promoted, 2 configuration, 3 data rejected, 4 gate refused, 5 integrity,
    6 gate held, 75 retry later, 99 nothing to do.

    Example: recsys-mtl run pipelines/short_video.yaml --first-champion
    """
    conclude(
        as_json, lambda: _run(Job.open(pipeline, overrides, interval_end, quiet), first_champion)
    )


def _run(job: Job, first_champion: bool) -> Result:
    lines, data, exit_code = _verdict(job, first_champion)
    report = write_report(job, first_champion)
    metrics = read_json(job.evaluated, "metrics.json")["tasks"]
    data |= {"metrics": point_values(metrics), "report": str(report)}
    lines = [*tasks_table(job), *survival_lines(job), "", *lines]
    champion = job.registry.by_alias("champion")
    if champion is not None:
        lines.append(f"Champion: {champion.name} version {champion.version}")
        data["champion"] = champion.version
        if not job.loaded.is_ad_level:
            scores, _ = job.scored()
            lines.append(f"Scores:   {scores.dir} ({scores.meta['rows']:,} rows)")
            data["scores"] = str(scores.dir)
        if job.loaded.pipeline.creatives is not None:
            creatives, _ = job.scored_creatives()
            lines.append(f"Creatives: {creatives.dir} ({creatives.meta['rows']:,} alive)")
            data["creatives"] = str(creatives.dir)
    else:
        lines.append("There is no champion yet, so nothing was scored.")
    lines += [f"Shards:   written by {_workers(job)}", f"Report:   {report}"]
    lines.append(f"Next:     recsys-mtl registry list {job.loaded.pipeline_path}")
    return Result(lines, data, exit_code)


def _verdict(job: Job, first_champion: bool) -> tuple[list[str], dict[str, object], int]:
    """Gate and, if it says so, promote; lines, data and exit code."""
    version = job.candidate.version
    if job.candidate_is_champion:
        text = f"Version {version} is already the champion; nothing to decide."
        return [text], {"verdict": "PROMOTE", "version": version}, 0
    decision, artifact = job.decide(first_champion)
    data: dict[str, object] = {
        "verdict": str(decision.verdict),
        "decision": str(artifact.dir),
        "version": version,
    }
    if decision.exit_code == 0:
        promote_candidate(job, first_champion)
    return decision_lines(decision), data, decision.exit_code


def _workers(job: Job) -> str:
    """Names of the workers that wrote the shards."""
    path = job.ingested.dir / "timing.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return ", ".join(sorted({json.loads(line)["worker"] for line in lines}))
