"""`recsys-mtl score`."""

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score the rows of the window's last day with the champion, and publish them.

    Example: recsys-mtl score pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _score(Job.open(pipeline, overrides, interval_end, quiet)))


def _score(job: Job) -> Result:
    scores, version = job.scored()
    meta = scores.meta
    return Result(
        [f"{meta['rows']:,} rows scored by version {version.version}: {scores.dir}"],
        {"artifact": str(scores.dir), **meta},
    )
