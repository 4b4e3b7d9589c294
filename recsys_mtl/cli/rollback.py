"""`recsys-mtl rollback`."""

from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson, Overrides, PipelineFile
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job


def command(
    pipeline: PipelineFile,
    reason: Annotated[str, typer.Option(help="Why; written to the ledger.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the previous champion the champion again.

    Example: recsys-mtl rollback pipelines/short_video.yaml --reason "scores too high"
    """
    conclude(as_json, lambda: _rollback(Job.open(pipeline, overrides, None, True), reason))


def _rollback(job: Job, reason: str) -> Result:
    from recsys_mtl.registry.promote import rollback

    version = rollback(job.loaded.home, job.registry, reason)
    return Result(
        [
            f"Champion of {version.name}: version {version.version} again.",
            "Scores that are published stay; rerun `recsys-mtl score` to replace them.",
        ],
        {"version": version.version, "bundle_sha": version.bundle_sha},
    )
