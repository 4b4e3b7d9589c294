"""How a verb ends: lines for people, one JSON object for machines, an exit code for both."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import typer

from recsys_mtl.errors import RecsysError


@dataclass(slots=True)
class Result:
    """What a verb made.

    Attributes:
        lines: sentences and tables for standard output.
        data: fields of the JSON object (artifact paths, metrics, verdict).
        exit_code: 0, or the code of a verdict such as HOLD.
    """

    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def conclude(as_json: bool, body: Callable[[], Result]) -> None:
    """Run a verb's body and report its result or its located errors.

    Raises:
        typer.Exit: always with the documented exit code when it is not 0.
    """
    started = time.perf_counter()
    try:
        result = body()
        status: dict[str, Any] = {"status": "ok" if result.exit_code == 0 else "verdict"}
    except RecsysError as error:
        result = Result([], {"problems": error.as_json()}, error.exit_code)
        status = {"status": "error", "error": type(error).__name__}
        typer.echo(str(error), err=True)
    for line in result.lines if not as_json else []:
        typer.echo(line)
    if as_json:
        seconds = round(time.perf_counter() - started, 3)
        report = {**status, "exit_code": result.exit_code, "duration_s": seconds, **result.data}
        typer.echo(json.dumps(report, sort_keys=True, default=str))
    sys.stdout.flush()
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a plain text table; the first column left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    return [line(header), line(["-" * w for w in widths]), *map(line, rows)]
