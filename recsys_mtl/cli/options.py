"""Options that verbs share."""

from pathlib import Path
from typing import Annotated

import typer

PipelineFile = Annotated[
    Path, typer.Argument(help="Pipeline file, e.g. pipelines/short_video.yaml.", show_default=False)
]
IntervalEnd = Annotated[
    str | None,
    typer.Option(
        help="End of the data window (ISO date or UTC time; rounded down to a day). "
        "All partitions present when absent.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a pipeline value, e.g. training.epochs=1. Repeatable.",
        metavar="A.B=C",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
EXIT_CODES = (
    "Exit codes: 0 done, 2 configuration, 3 data rejected, 4 gate refused, 5 integrity, "
    "6 gate held, 75 retry later, 99 nothing to do."
)
