"""`recsys-mtl ingest`."""

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
    """Turn raw logs into encoded, verified shards.

    Example: recsys-mtl ingest pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _ingest(Job.open(pipeline, overrides, interval_end, quiet)))


def _ingest(job: Job) -> Result:
    artifact = job.ingested
    meta = artifact.meta
    rows = ", ".join(f"{name} {part['rows']:,}" for name, part in meta["splits"].items())
    return Result(
        [
            f"{meta['rows_in']:,} rows in = {meta['rows_out']:,} rows out + "
            f"{meta['rows_quarantined']:,} quarantined ({rows}).",
            f"Shards: {artifact.dir}",
        ],
        {"artifact": str(artifact.dir), **meta},
    )
