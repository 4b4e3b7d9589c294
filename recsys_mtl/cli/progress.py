"""Progress of a stage: a bar on a terminal, one line per 10 % or 30 s elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Called by stages as often as they like."""

    def __call__(self, done: int, total: int, **numbers: float | str) -> None:
        """Report that `done` of `total` units are finished; `numbers` are shown beside it."""


@contextmanager
def stage_progress(stage: str, quiet: bool) -> Iterator[Progress]:
    """Progress callback of one stage, drawn on standard error."""
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(stage) as callback:
            yield callback
    else:
        yield _Lines(stage)


def _silent(done: int, total: int, **numbers: float | str) -> None:
    """Show nothing."""


def _text(numbers: dict[str, float | str]) -> str:
    shown = {k: v if isinstance(v, str) else f"{v:,.4g}" for k, v in numbers.items()}
    return " ".join(f"{k}={v}" for k, v in shown.items())


class _Lines:
    """One line per 10 % or 30 s."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._next_share = 0.1
        self._last_s = time.monotonic()

    def __call__(self, done: int, total: int, **numbers: float | str) -> None:
        share = done / max(total, 1)
        now = time.monotonic()
        if share < self._next_share and now - self._last_s < 30:
            return
        self._next_share = share + 0.1
        self._last_s = now
        print(f"{self._stage} {share:.0%} {_text(numbers)}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _bar(stage: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(stage, total=None, numbers="")

        def callback(done: int, total: int, **numbers: float | str) -> None:
            bars.update(task, completed=done, total=total, numbers=_text(numbers))

        yield callback
