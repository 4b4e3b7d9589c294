"""Runs ad-level stages, each in a process of its own that SIGKILLs itself at the n-th call.

    python -m tests.faults.ad_victim PIPELINE POLICY

Reads one command per line, `[stage, home, kill_at]`, in which the home holds what earlier stages
made, and answers each with a line `[exit code, calls, traceback]`. The processes are forks of one
that has imported everything, which makes a kill cost as much as the work before it; that one itself
runs no stage, because torch cannot run backward in the fork of a process that has.
"""

import json
import os
import sys
import traceback
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from recsys_mtl.artifacts import commit
from recsys_mtl.cli.discontinue import _decided
from recsys_mtl.cli.stages import Job
from recsys_mtl.decisions.job import publish_decisions
from recsys_mtl.evaluation.survival import evaluate_survival
from recsys_mtl.ingest import job as _ingest  # noqa: F401
from recsys_mtl.registry import bundling as _bundling  # noqa: F401
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.scoring.creatives import score_creatives
from recsys_mtl.training import job as _training  # noqa: F401
from recsys_mtl.training.learner import Learner
from tests.faults.victim import Killer


class Unregistered(Job):
    """A job whose bundle is candidate and champion without a registry, which keeps no bytes."""

    candidate = SimpleNamespace(version="1")

    @cached_property
    def only_bundle(self):
        return load_bundle(self.bundle.dir)

    def load(self, version):
        return self.only_bundle

    def scored_creatives(self):
        scores = score_creatives(self.loaded, self.only_bundle, "1", self.landmarks)
        return scores, self.candidate


STAGES = {
    "landmarks": (lambda job: None, lambda job, _: job.landmarks),
    "ingest": (lambda job: job.landmarks, lambda job, _: (job.creatives, job.ingested)),
    "train": (lambda job: (job.creatives, job.ingested), lambda job, _: job.trained),
    "evaluate": (
        lambda job: job.only_bundle,
        lambda job, bundle: evaluate_survival(job.loaded, bundle, job.landmarks),
    ),
    "score": (lambda job: job.only_bundle, lambda job, _: job.scored_creatives()),
    "discontinue": (
        lambda job: _decided(job, Path(sys.argv[2])),
        lambda job, given: publish_decisions(job.loaded.home, job.loaded.pipeline.name, given),
    ),
}


def run(stage: str, home: str, kill_at: int) -> int:
    killer = Killer(kill_at)
    for name in ("_write", "_fsync_file", "_replace", "_fsync_dir"):
        killer.watch(commit, name)
    killer.watch(Learner, "step")
    job = Unregistered.open(Path(sys.argv[1]), [f"home={home}"], None, quiet=True)
    before, work = STAGES[stage]
    given = before(job)
    killer.arm()
    work(job, given)
    return killer.calls


def forked(*command) -> list:
    """Exit code (minus the signal of a killed one), calls, and what went wrong."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        calls, error = 0, ""
        try:
            calls = run(*command)
        except BaseException:
            error = traceback.format_exc()
        with os.fdopen(writer, "w") as answer:
            json.dump([calls, error], answer)
        os._exit(bool(error))
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [code, *(json.loads(text) if text else [0, ""])]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)  # noqa: T201
