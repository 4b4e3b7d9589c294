"""Every ad-level stage, SIGKILLed at seeded moments and run again, ends as if undisturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.ads import NAME, write_ads_pipeline, write_logs
from tests.conftest import ROOT
from tests.faults.test_stage_kills import KILLS, moments, tree

FOLDER = {
    "landmarks": "landmarks",
    "ingest": "ingest",
    "train": "train",
    "evaluate": "evaluate",
    "score": "creative_scores",
    "discontinue": "decisions",
}
POLICY = """\
policy_version: 1
horizon: 7
causes:
  cut_out: {threshold: 0.5}
  wear_out: {threshold: 0.5, replace_first: true}
evidence:
  target_ctr: {default: 0.02}
"""


class Stages:
    """Runs stages in processes of their own, over copies of a home that all stages have filled."""

    def __init__(self, folder):
        pipeline = write_ads_pipeline(folder, write_logs(folder / "logs"))
        (folder / "policy.yaml").write_text(POLICY)
        command = [sys.executable, "-m", "tests.faults.ad_victim"]
        self.server = subprocess.Popen(
            [*command, str(pipeline), str(folder / "policy.yaml")],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.home = folder / "whole"
        for stage in FOLDER:
            self.run(stage, self.home)

    def run(self, stage, home, kill_at=0):
        """Calls that the stage made, or 0 if it was killed at one of them."""
        self.server.stdin.write(json.dumps([stage, str(home), kill_at]) + "\n")
        self.server.stdin.flush()
        code, calls, error = json.loads(self.server.stdout.readline())
        assert code == (-signal.SIGKILL if kill_at else 0), error or f"ended with {code}"
        return calls

    def before(self, stage, home):
        """A home with what all other stages made."""

        def own(folder, names):
            return {FOLDER[stage]} if folder == str(self.home / NAME) else set()

        shutil.copytree(self.home, home, ignore=own)
        return home


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("ads"))
    yield stages
    stages.server.stdin.close()
    assert stages.server.wait(30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(FOLDER))
def test_killed_and_rerun_stage_writes_the_same_bytes(stage, tmp_path, stages):
    check_kills(stage, tmp_path, stages, KILLS)


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", list(FOLDER))
def test_stage_killed_at_many_moments_writes_the_same_bytes(stage, tmp_path, stages):
    check_kills(stage, tmp_path, stages, 20)


def check_kills(stage, tmp_path, stages, kills):
    undisturbed = stages.before(stage, tmp_path / "undisturbed")
    assert not (undisturbed / NAME / FOLDER[stage]).exists()
    calls = stages.run(stage, undisturbed)
    expected = tree(undisturbed)
    assert any(f"/{FOLDER[stage]}/" in name and "MANIFEST" in name for name in expected)
    for moment in moments(stage, calls, kills):
        home = stages.before(stage, tmp_path / f"killed-{moment}")
        stages.run(stage, home, kill_at=moment)
        stages.run(stage, home)
        assert tree(home) == expected, moment
