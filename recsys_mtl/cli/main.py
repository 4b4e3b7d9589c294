"""The `recsys-mtl` command. Verbs import what they need when they run, so that help is instant."""

import typer

from recsys_mtl.cli import (
    config,
    discontinue,
    doctor,
    evaluate,
    gate,
    ingest,
    promote,
    registry,
    report,
    rollback,
    run,
    schedule,
    score,
    simulate,
    spec,
    train,
    validate,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From raw logs to gated champions and batch scores. Start with: "
    "recsys-mtl run pipelines/short_video.yaml",
)
app.command("run")(run.command)
app.command("validate")(validate.command)
app.command("ingest")(ingest.command)
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("gate")(gate.command)
app.command("promote")(promote.command)
app.command("score")(score.command)
app.command("discontinue")(discontinue.command)
app.command("rollback")(rollback.command)
app.command("report")(report.command)
app.command("simulate")(simulate.command)
app.command("doctor")(doctor.command)
app.add_typer(spec.app, name="spec")
app.add_typer(config.app, name="config")
app.add_typer(registry.app, name="registry")
app.add_typer(schedule.app, name="schedule")


def main() -> None:
    """Entry point of the console script."""
    app()
