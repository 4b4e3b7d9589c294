"""Runs one stage and SIGKILLs itself at the n-th protocol call, training step or alias change.

    python -m tests.faults.victim STAGE PIPELINE KILL_AT

Earlier stages run first, unharmed. With KILL_AT 0 nothing is killed and the number of calls that
the stage made is printed.
"""

import os
import signal
import sys
from pathlib import Path

from recsys_mtl.artifacts import commit
from recsys_mtl.cli.promote import promote_candidate
from recsys_mtl.cli.stages import Job
from recsys_mtl.registry.mlflow_registry import Registry
from recsys_mtl.training.learner import Learner

STAGES = {
    "ingest": (lambda job: None, lambda job: job.ingested),
    "train": (lambda job: job.ingested, lambda job: job.trained),
    "evaluate": (lambda job: job.candidate, lambda job: job.evaluated),
    "promote": (lambda job: job.evaluated, lambda job: promote_candidate(job, True)),
    "score": (lambda job: promote_candidate(job, True), lambda job: job.scored()),
}


class Killer:
    """Counts calls from `arm` on and ends the process at the chosen one."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.calls = -1

    def arm(self) -> None:
        self.calls = 0

    def watch(self, owner, name: str) -> None:
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            if self.calls >= 0:
                self.calls += 1
                if self.calls == self.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, counted)


def main(stage: str, pipeline: str, kill_at: int) -> None:
    killer = Killer(kill_at)
    for name in ("_write", "_fsync_file", "_replace", "_fsync_dir"):
        killer.watch(commit, name)
    killer.watch(Learner, "step")
    killer.watch(Registry, "set_alias")
    before, run = STAGES[stage]
    job = Job.open(Path(pipeline), None, None, quiet=True)
    before(job)
    killer.arm()
    run(job)
    print(killer.calls)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
