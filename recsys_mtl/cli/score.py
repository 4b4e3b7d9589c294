"""`recsys-mtl score`."""

from typing import TYPE_CHECKING

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job

if TYPE_CHECKING:
    from recsys_mtl.artifacts.manifest import Manifest
    from recsys_mtl.registry.mlflow_registry import ModelVersion


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score the rows of the window's last day, and live creatives, with the champion.

    Example: recsys-mtl score pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _score(Job.open(pipeline, overrides, interval_end, quiet)))


def _score(job: Job) -> Result:
    lines: list[str] = []
    data: dict[str, object] = {}
    if not job.loaded.is_ad_level:
        scores, version = job.scored()
        lines.append(_line(scores, "rows", version))
        data |= {"artifact": str(scores.dir), **scores.meta}
    if job.loaded.pipeline.creatives is not None:
        scores, version = job.scored_creatives()
        lines.append(_line(scores, "live creatives", version))
        data["creatives"] = {"artifact": str(scores.dir), **scores.meta}
    return Result(lines, data)


def _line(scores: "Manifest", what: str, version: "ModelVersion") -> str:
    return f"{scores.meta['rows']:,} {what} scored by version {version.version}: {scores.dir}"
