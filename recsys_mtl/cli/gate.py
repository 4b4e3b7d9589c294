"""`recsys-mtl gate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job

if TYPE_CHECKING:
    from recsys_mtl.registry.decision import Decision

FirstChampion = Annotated[
    bool, typer.Option(help="Let absolute floors decide where there is no champion yet.")
]


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    first_champion: FirstChampion = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decide whether the candidate may replace the champion: PROMOTE, HOLD or REFUSE.

    Example: recsys-mtl gate pipelines/short_video.yaml --first-champion
    """
    conclude(
        as_json,
        lambda: _gate(Job.open(pipeline, overrides, interval_end, quiet), first_champion),
    )


def _gate(job: Job, first_champion: bool) -> Result:
    if job.candidate_is_champion:
        return Result(
            [f"Version {job.candidate.version} is already the champion; nothing to decide."],
            {"verdict": "PROMOTE", "version": job.candidate.version},
        )
    decision, artifact = job.decide(first_champion)
    data = {
        "verdict": str(decision.verdict),
        "artifact": str(artifact.dir),
        "reasons": list(decision.reasons),
        "version": job.candidate.version,
    }
    return Result(decision_lines(decision), data, decision.exit_code)


def decision_lines(decision: "Decision") -> list[str]:
    """The verdict, its notes, and a sentence for every check."""
    lines = [str(decision.verdict)]
    lines += [f"  note: {note}" for note in decision.notes]
    lines += [f"  {check.sentence}" for check in decision.checks]
    return lines
