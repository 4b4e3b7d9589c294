"""`recsys-mtl validate`."""

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.progress import stage_progress
from recsys_mtl.cli.stages import Job


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
    from recsys_mtl.ingest.job import validate

    with stage_progress("validate", job.quiet) as progress:
        problems, splits = validate(job.loaded, job.interval_end, progress)
    if problems:
        raise DataError(problems)
    rows = ", ".join(f"{name} {part['rows']:,}" for name, part in splits.items())
    return Result([f"No problems. Rows: {rows}."], {"splits": splits})
