"""Shard functions of the tests; at the top level of a module, so that workers can import them."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from recsys_mtl.engines.base import worker_name
from recsys_mtl.errors import DataError, Problem


@dataclass(frozen=True)
class Task:
    index: int
    folder: str = ""


class OddError(Exception):
    """Cannot be rebuilt from its arguments, which breaks a plain process pool."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def square(task: Task) -> tuple[int, int]:
    return task.index, task.index**2


def who(task: Task) -> tuple[str, str | None, list[str]]:
    heavy = [m for m in ("torch", "ray", "mlflow") if m in sys.modules]
    return worker_name(), os.environ.get("OMP_NUM_THREADS"), heavy


def who_of_two(task: Task) -> tuple[str, str | None, list[str]]:
    """Like `who`, but holds its worker until a second one is there too."""
    Path(task.folder, f"pid-{os.getpid()}").touch()
    end = time.monotonic() + 30
    while len(list(Path(task.folder).iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return who(task)


def killed_once(task: Task) -> int:
    mark = Path(task.folder, f"killed-{task.index}")
    if task.index % 3 == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.index


def always_killed(task: Task) -> int:
    with Path(task.folder, "starts").open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
    return task.index


def rejects_five(task: Task) -> int:
    if task.index == 5:
        raise DataError(Problem("log/2.parquet: column 'x'", "17 rows hold 2", "Map it.", "D005"))
    return task.index


def has_a_bug(task: Task) -> int:
    if task.index == 5:
        raise OddError("one", "two")
    return task.index


def stops_at_five(task: Task) -> int:
    """Counts its starts; what comes after shard 5 does not end before its worker is stopped.

    Without that hold, one worker could run all other shards while the other one still starts.
    """
    Path(task.folder, f"start-{task.index}-{time.monotonic_ns()}").touch()
    if task.index > 5:
        time.sleep(60)
    return rejects_five(task)


def sleeps(task: Task) -> int:
    Path(task.folder, f"pid-{os.getpid()}").touch()
    time.sleep(60)
    return task.index
