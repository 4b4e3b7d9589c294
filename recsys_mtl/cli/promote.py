"""`recsys-mtl promote`."""

from recsys_mtl.cli.gate import FirstChampion
from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    first_champion: FirstChampion = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make the candidate the champion, if the gate's decision says so.

    Example: recsys-mtl promote pipelines/short_video.yaml
    """
    conclude(
        as_json,
        lambda: promote_candidate(
            Job.open(pipeline, overrides, interval_end, quiet), first_champion
        ),
    )


def promote_candidate(job: Job, first_champion: bool) -> Result:
    """Promote what the gate let pass; a version that is already champion stays so."""
    from recsys_mtl.registry.promote import promote

    if not job.candidate_is_champion:
        decision, _ = job.decide(first_champion)
        promote(job.loaded.home, job.registry, job.candidate, decision)
    version = job.candidate
    return Result(
        [f"Champion of {version.name}: version {version.version}."],
        {"verdict": "PROMOTE", "version": version.version, "bundle_sha": version.bundle_sha},
    )
