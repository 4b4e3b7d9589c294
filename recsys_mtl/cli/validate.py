"""`recsys-mtl validate`."""

from typing import TYPE_CHECKING, Any

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.progress import stage_progress
from recsys_mtl.cli.stages import Job

if TYPE_CHECKING:
    from recsys_mtl.errors import Problem


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check the raw data of a window against the spec; nothing is published.

    Example: recsys-mtl validate pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _validate(Job.open(pipeline, overrides, interval_end, quiet)))


def _validate(job: Job) -> Result:
    from recsys_mtl.errors import DataError
    from recsys_mtl.ingest.columns import collecting
    from recsys_mtl.ingest.job import validate
    from recsys_mtl.ingest.landmarks import validate_landmarks

    checks = {} if job.loaded.is_ad_level else {"splits": validate}
    if job.loaded.pipeline.creatives is not None:
        checks["creatives"] = validate_landmarks
    problems: list[Problem] = []
    data: dict[str, Any] = {}
    for name, check in checks.items():
        with stage_progress("validate", job.quiet) as progress, collecting(problems):
            found, data[name] = check(job.loaded, job.interval_end, progress)
            problems += found
    if problems:
        raise DataError(problems)
    lines = [f"No problems. Rows: {_rows(splits)}." for splits in data.values()]
    return Result(lines, data)


def _rows(splits: dict[str, Any]) -> str:
    return ", ".join(f"{name} {part['rows']:,}" for name, part in splits.items())
