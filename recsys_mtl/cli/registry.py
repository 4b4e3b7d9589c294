"""`recsys-mtl registry`: versions, aliases, and the ledger behind them."""

import typer

from recsys_mtl.cli.options import AsJson, Overrides, PipelineFile
from recsys_mtl.cli.output import Result, conclude, table
from recsys_mtl.cli.stages import Job

app = typer.Typer(no_args_is_help=True, help="List versions and verify the ledger.")


@app.command("list")
def list_versions(
    pipeline: PipelineFile, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """List registered versions with their aliases.

    Example: recsys-mtl registry list pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _list(Job.open(pipeline, overrides, None, True)))


@app.command("verify")
def verify(pipeline: PipelineFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Recompute the ledger's hash chain and compare its last promotion with the champion.

    Example: recsys-mtl registry verify pipelines/short_video.yaml
    """
    conclude(as_json, lambda: _verify(Job.open(pipeline, overrides, None, True)))


def _list(job: Job) -> Result:
    aliases: dict[str, list[str]] = {}
    for alias in ("champion", "previous_champion", "candidate"):
        version = job.registry.by_alias(alias)
        if version is not None:
            aliases.setdefault(version.version, []).append(alias)
    rows = [
        [v.version, v.bundle_sha[:12], ", ".join(aliases.get(v.version, []))]
        for v in job.registry.versions()
    ]
    return Result(table(["version", "bundle", "aliases"], rows), {"versions": rows})


def _verify(job: Job) -> Result:
    from recsys_mtl.registry.promote import verify

    entries = verify(job.loaded.home, job.registry)
    return Result([f"{entries} ledger entries verify."], {"entries": entries})
