"""Whole runs on two days: what may become champion decides the hazards as well as the clicks."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys_mtl.cli.main import app
from recsys_mtl.cli.stages import Job
from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_world import WorldConfig

from .conftest import PIPELINE, overrides

WORLD = WorldConfig(num_creatives=4000, num_users=60, num_days=40, days_before=20, rows_per_day=300)
YESTERDAY, TODAY = "2026-04-09", "2026-04-10"
GATE = (
    "gate.margins={stop: {nll: 0.1}}",
    "gate.floors={stop: {calibration: 0.5, gain: 0.02}}",
    "gate.ungated=[click]",
    "gate.min_campaigns=30",
    "creatives.test=15d",
    # What a few thousand creatives can be learned from in seconds, whatever the pipeline has.
    "objectives.tasks.stop.weight=1.0",
    "training.epochs=3",
    "training.batch_rows=128",
    "training.dense.lr=0.002",
    "training.sparse.lr=0.1",
)
UNTRAINED = "objectives.tasks.stop.weight=0"


def settings(logs, home, *more):
    return [*overrides(logs, home), *GATE, *more]


def run(logs, home, end, *more, first=False):
    """`recsys-mtl run`: exit code, its JSON, and the checks of the survival label by class."""
    sets = [part for item in settings(logs, home, *more) for part in ("--set", item)]
    args = ["run", str(PIPELINE), "--interval-end", end, "--json", "--quiet", *sets]
    done = CliRunner().invoke(app, [*args, "--first-champion"] if first else args)
    found = json.loads(done.stdout.splitlines()[-1])
    decision = json.loads((Path(found["decision"]) / "decision.json").read_bytes())
    checks = {c["class"]: c for c in decision["checks"] if c["task"] == "stop"}
    return done.exit_code, found | {"facts": decision["facts"]}, checks


def champion(logs, home):
    found = Job.open(PIPELINE, settings(logs, home), TODAY, True).champion
    return None if found is None else found.version


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    write_world(root, WORLD)
    return root


@pytest.fixture(scope="module")
def home(logs, tmp_path_factory):
    """Yesterday's model in production."""
    folder = tmp_path_factory.mktemp("home")
    code, _, checks = run(logs, folder, YESTERDAY, first=True)
    assert (code, checks["floor"]["outcome"]) == (0, "PROMOTE")
    return folder


@pytest.mark.slow
def test_hazards_that_learned_nothing_are_refused_and_the_champion_stays(logs, home):
    before = champion(logs, home)
    code, found, checks = run(logs, home, TODAY, UNTRAINED)
    assert (code, found["verdict"]) == (4, "REFUSE")
    assert checks["guardrail"]["outcome"] == "REFUSE"
    assert checks["guardrail"]["numbers"]["U"] < -0.1
    assert champion(logs, home) == before == found["champion"]
    assert "REFUSE: stop NLL gain -0." in Path(found["report"]).read_text()


@pytest.mark.slow
def test_the_next_day_is_compared_with_the_champion_on_the_same_rows(logs, home):
    code, found, checks = run(logs, home, TODAY)
    assert (code, found["verdict"]) == (0, "PROMOTE")
    guardrail = checks["guardrail"]
    assert guardrail["outcome"] == "PROMOTE"
    assert guardrail["numbers"]["pass_probability"] > 0.9
    ours, theirs = (found["facts"][side]["survival"] for side in ("challenger", "champion"))
    assert ours["holdout_fp"] == theirs["holdout_fp"]
    assert ours["evaluation_sha"] != theirs["evaluation_sha"]
    assert theirs["trained_until_us"] <= ours["trained_until_us"]
    assert champion(logs, home) == found["version"]


@pytest.mark.slow
def test_hazards_that_learned_nothing_are_no_first_champion(logs, tmp_path):
    code, _, checks = run(logs, tmp_path, TODAY, UNTRAINED, first=True)
    assert code in (4, 6)
    assert checks["floor"]["outcome"] in ("HOLD", "REFUSE")
    assert champion(logs, tmp_path) is None
