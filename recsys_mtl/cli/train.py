"""`recsys-mtl train`."""

from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude
from recsys_mtl.cli.stages import Job

FromScratch = Annotated[
    bool,
    typer.Option("--from-scratch", help="drop the checkpoints of a killed run"),
]


def command(
    pipeline: PipelineFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    from_scratch: FromScratch = False,
) -> None:
    """Train, bundle the best weights, and register them as `candidate`.

    Example: recsys-mtl train pipelines/short_video.yaml --set training.epochs=1
    """
    conclude(
        as_json, lambda: _train(Job.open(pipeline, overrides, interval_end, quiet), from_scratch)
    )


def _train(job: Job, from_scratch: bool) -> Result:
    job.from_scratch = from_scratch
    meta, version = job.trained.meta, job.candidate
    aucs = {task: points[-1][1] for task, points in job.history["valid_auc"].items()}
    found = [f"AUC of {task} {auc:.4f}" for task, auc in aucs.items() if auc is not None]
    survival = job.loaded.layout.survival
    if survival is not None:
        found.append(f"loss of {survival.name} {job.history['valid'][survival.name][-1][1]:.4f}")
    return Result(
        [
            f"Trained {meta['steps']} steps; best validation loss at step {meta['best_step']}.",
            f"Validation at the end: {', '.join(found)}.",
            f"Candidate: {version.name} version {version.version}, bundle {job.bundle.dir}",
        ],
        {
            "artifact": str(job.bundle.dir),
            "version": version.version,
            "bundle_sha": version.bundle_sha,
            "valid_auc": aucs,
            **{k: meta[k] for k in ("steps", "best_step", "run_key")},
        },
    )
