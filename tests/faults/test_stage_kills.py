"""Every stage, SIGKILLed at three seeded moments and run again, ends as if nothing had happened."""

import hashlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_mtl.cli.stages import Job
from recsys_mtl.registry.ledger import Ledger
from tests.conftest import ROOT, write_pipeline

FOLDER = {"ingest": "ingest", "train": "train", "evaluate": "evaluate", "score": "scores"}
KILLS = 3


def run(stage: str, pipeline: Path, kill_at: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.faults.victim", stage, str(pipeline), str(kill_at)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def tree(folder: Path) -> dict[str, str]:
    """sha256 of every file that belongs to an artifact; locks and timings do not."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if not p.name.startswith(".") and p.name != "timing.jsonl"
    }


def moments(stage: str, calls: int, kills: int = KILLS) -> list[int]:
    return random.Random(stage).sample(range(1, calls + 1), min(kills, calls))


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(FOLDER))
def test_killed_and_rerun_stage_writes_the_same_bytes(stage, tmp_path, feed):
    check_kills(stage, tmp_path, feed, KILLS)


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", list(FOLDER))
def test_stage_killed_at_many_moments_writes_the_same_bytes(stage, tmp_path, feed):
    check_kills(stage, tmp_path, feed, 20)


def check_kills(stage, tmp_path, feed, kills):
    undisturbed = write_pipeline(tmp_path / "undisturbed", feed)
    done = run(stage, undisturbed, 0)
    assert done.returncode == 0, done.stderr
    calls = int(done.stdout.split()[-1])
    expected = tree(tmp_path / "undisturbed" / "out" / "short_video" / FOLDER[stage])
    assert any(name.endswith("MANIFEST.json") for name in expected)
    for moment in moments(stage, calls, kills):
        folder = tmp_path / f"killed-{moment}"
        pipeline = write_pipeline(folder, feed)
        killed = run(stage, pipeline, moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        again = run(stage, pipeline, 0)
        assert again.returncode == 0, again.stderr
        assert tree(folder / "out" / "short_video" / FOLDER[stage]) == expected, moment


@pytest.mark.slow
def test_killed_promotion_leaves_the_old_or_the_new_champion_and_a_rerun_finishes_it(
    tmp_path, feed
):
    first = write_pipeline(tmp_path / "count", feed)
    calls = int(run("promote", first, 0).stdout.split()[-1])
    for moment in moments("promote", calls):
        pipeline = write_pipeline(tmp_path / f"killed-{moment}", feed)
        assert run("promote", pipeline, moment).returncode == -signal.SIGKILL
        again = run("promote", pipeline, 0)
        assert again.returncode == 0, again.stderr
        job = Job.open(pipeline, None, None, quiet=True)
        champion = job.registry.by_alias("champion")
        assert champion is not None and champion.version == "1"
        actions = [e["action"] for e in Ledger(job.loaded.home, "short_video").entries()]
        assert actions == ["promote-begin", "promote-done"]
