"""Trains and SIGKILLs itself at the n-th protocol call or training step.

python -m tests.training.victim HOME SHARDS KILL_AT
"""

import os
import signal
import sys
from pathlib import Path

from recsys_mtl.artifacts import commit
from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.training import checkpoint
from recsys_mtl.training.job import train
from recsys_mtl.training.learner import Learner
from tests.training.small import make_loaded, silent

WATCHED = (
    (commit, "_replace"),
    (commit, "_fsync_dir"),
    (checkpoint, "save_sharded"),
    (checkpoint, "publish"),
    (Learner, "step"),
)


class Counter:
    """Counts calls of the watched functions; at the chosen one the process is killed."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.calls = 0

    def wrap(self, function):
        def counted(*args, **kwargs):
            self.calls += 1
            if self.calls == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return counted


if __name__ == "__main__":
    counter = Counter(int(sys.argv[3]))
    for owner, name in WATCHED:
        setattr(owner, name, counter.wrap(getattr(owner, name)))
    train(make_loaded(Path(sys.argv[1])), open_artifact(Path(sys.argv[2])), silent)
