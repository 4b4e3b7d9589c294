"""`recsys-mtl ingest`."""

from typing import TYPE_CHECKING, Any

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job

if TYPE_CHECKING:
    from recsys_mtl.artifacts.manifest import Manifest


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
    # The smaller log first: what is wrong with it is told before the rows are read.
    creatives = job.creatives
    artifact = job.ingested
    lines = _lines("Shards", artifact)
    data: dict[str, Any] = {"artifact": str(artifact.dir), **artifact.meta}
    if creatives is not None:
        lines += _lines("Creatives", creatives)
        data["creatives"] = {"artifact": str(creatives.dir), **creatives.meta}
    if job.loaded.pipeline.creatives is not None:
        data["landmarks"] = {"artifact": str(job.landmarks.dir), **job.landmarks.meta}
    return Result(lines, data)


def _lines(name: str, artifact: "Manifest") -> list[str]:
    meta = artifact.meta
    rows = ", ".join(f"{name} {part['rows']:,}" for name, part in meta["splits"].items())
    return [
        f"{meta['rows_in']:,} rows in = {meta['rows_out']:,} rows out + "
        f"{meta['rows_quarantined']:,} quarantined ({rows}).",
        f"{name}: {artifact.dir}",
    ]
