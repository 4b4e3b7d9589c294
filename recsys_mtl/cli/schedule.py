"""`recsys-mtl schedule`: what Airflow reads."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson
from recsys_mtl.cli.output import Result, conclude

app = typer.Typer(no_args_is_help=True, help="Export scheduled pipelines to Airflow.")


@app.callback()
def _group() -> None:
    """Keep `schedule export` a subcommand."""


@app.command("export")
def export(
    pipelines: Annotated[Path, typer.Option(help="Folder of pipeline files.")] = Path("pipelines"),
    out: Annotated[Path, typer.Option(help="File that the DAGs read.")] = Path(
        "airflow_dags/pipelines.json"
    ),
    as_json: AsJson = False,
) -> None:
    """Write every pipeline that has a schedule to the file that the DAGs read.

    Example: recsys-mtl schedule export
    """
    conclude(as_json, lambda: _export(pipelines, out))


def _export(pipelines: Path, out: Path) -> Result:
    import os
    import sys

    from recsys_mtl.artifacts.commit import atomic_write
    from recsys_mtl.errors import NothingToDoError
    from recsys_mtl.spec.load import load_schedule

    command = str(Path(sys.executable).parent / "recsys-mtl")
    entries = []
    for path in sorted(pipelines.glob("*.yaml")):
        pipeline = load_schedule(path)
        if pipeline.schedule is not None:
            policy = pipeline.schedule.policy
            entries.append(
                {
                    "name": pipeline.name,
                    "file": str(path),
                    "folder": os.getcwd(),
                    "command": [command],
                    "cron": pipeline.schedule.retrain.cron,
                    "timezone": pipeline.schedule.retrain.timezone,
                    "policy": policy and os.path.normpath(path.parent / policy),
                }
            )
    if not entries:
        raise NothingToDoError(f"{pipelines}: no pipeline file has a `schedule` block")
    text = json.dumps({"pipelines": entries}, indent=2, sort_keys=True) + "\n"
    atomic_write(out, text.encode())
    return Result(
        [f"Wrote {len(entries)} scheduled pipelines to {out}."],
        {"file": str(out), "pipelines": [e["name"] for e in entries]},
    )
