"""`recsys-mtl discontinue`, from scores on: what it prints and reads."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.artifacts.manifest import publish
from recsys_mtl.cli.main import app
from recsys_mtl.cli.stages import Job
from tests.decisions.world import BAD, LABEL, life, live

POLICY = """\
policy_version: 1
horizon: 7
causes:
  cut_out: {threshold: 0.8}
evidence:
  target_ctr: {default: 0.02}
restraint: {hysteresis_days: 1, keep_live: 0, hold_out: 0}
"""
CHOSEN = POLICY.replace("threshold: 0.8", "precision: 0.9")


def artifact(folder, tables):
    folder.mkdir()
    files = [write_table(folder / f"{name}.parquet", t, folder) for name, t in tables.items()]
    return publish(folder, files, {"end": "2026-05-01"})


def predicted(p, count=50):
    """Rows that were all stopped by cut-out, predicted with one probability."""
    return pa.table(
        {
            "row_id": [f"r{i}" for i in range(count)],
            "entry": np.full(count, 3),
            "exit": np.full(count, 5),
            "event": np.full(count, 1),
            "stop__cut_out__7d": np.full(count, p),
        }
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The verb over a champion's scores that were made by hand."""
    scores = artifact(
        tmp_path / "scores", {"creatives": live([0.9, 0.1, 0.9], clicks=[10, 90, 12])}
    )
    evaluation = artifact(
        tmp_path / "evaluation", {"predictions": predicted(0.75, 40), "validation": predicted(0.7)}
    )
    genres = predicted(0.0).select(["row_id"]).append_column("genre", pa.array(["games"] * 50))
    landmarks = artifact(tmp_path / "landmarks", {"rows": genres})
    days = artifact(tmp_path / "days", {"days": life("a", (0, 3), BAD, stopped=True)})
    pipeline = SimpleNamespace(name="ads")
    loaded = SimpleNamespace(
        home=tmp_path / "out",
        pipeline=pipeline,
        pipeline_path="ads.yaml",
        layout=SimpleNamespace(survival=LABEL),
    )
    champion = SimpleNamespace(version="4", bundle_sha="b")
    asked = []

    def answer(found):
        def ask(loaded, bundle, rows):
            asked.append((bundle, rows))
            return found

        return ask

    job = SimpleNamespace(
        loaded=loaded,
        scored_creatives=lambda: (scores, champion),
        load=lambda version: f"bundle of {version.version}",
        landmarks=landmarks,
    )
    monkeypatch.setattr(Job, "open", lambda *_: job)
    monkeypatch.setattr("recsys_mtl.evaluation.survival.evaluate_survival", answer(evaluation))
    monkeypatch.setattr("recsys_mtl.scoring.creatives.score_days", answer(days))

    def invoke(text, *flags):
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        arguments = ["discontinue", "ads.yaml", "--policy", str(path), *flags]
        return CliRunner().invoke(app, arguments)

    return SimpleNamespace(
        invoke=invoke, asked=asked, loaded=loaded, landmarks=landmarks, out=tmp_path / "out"
    )


def test_todays_decisions_are_printed_most_urgent_first(run):
    result = run.invoke(POLICY)
    assert result.exit_code == 0, result.output
    first, _, _, *rows = result.output.splitlines()
    assert first == (
        "2026-05-01 (shadow mode, nothing is in force). Of 3 live creatives: stop 2, prepare a "
        "replacement for 0, watch 0, keep 1."
    )
    assert [row.split()[:5] for row in rows[:2]] == [
        ["c0", "a0", "stop", "5", "2,000"],
        ["c2", "a2", "stop", "5", "2,000"],
    ]
    assert rows[3].startswith("cut-out: counts from a probability of 0.800 on, as the policy says.")
    assert rows[4].startswith("Played back on 1 creatives of test campaigns")
    assert rows[-1].startswith("Page: ")


def test_json_names_the_artifact_its_counts_and_thresholds(run):
    data = json.loads(run.invoke(POLICY, "--json").output.splitlines()[-1])
    assert data["status"] == "ok" and data["counts"]["stop"] == 2 and data["version"] == "4"
    assert data["thresholds"][0]["value"] == 0.8
    assert data["page"].startswith(data["artifact"])


def test_the_champion_is_judged_and_chosen_for_on_its_own_predictions(run):
    data = json.loads(run.invoke(CHOSEN, "--json").output.splitlines()[-1])
    assert run.asked == [("bundle of 4", run.landmarks)] * 2
    (found,) = data["thresholds"]
    assert found["value"] == 0.7
    assert (found["validation"]["rows"], found["test"]["rows"]) == (50, 40)
    assert data["value"]["genres"]["cut_out"]["games"]["rows"] == 40
    # The policy acts on the first day, and the operator at the end of the fourth.
    assert data["value"]["replay"]["days_spared"] == 4


def test_in_force_is_said(run):
    assert "2026-05-01 (in force)" in run.invoke(f"mode: act\n{POLICY}").output


def test_a_wrong_policy_ends_with_2_and_decides_nothing(run):
    result = run.invoke(POLICY.replace("horizon", "horizn"))
    assert result.exit_code == 2
    assert "policy.yaml:2: horizn: unknown key 'horizn', did you mean 'horizon'?" in result.output
    assert not run.out.exists()


def test_a_pipeline_without_a_survival_label_is_refused(run):
    run.loaded.layout.survival = None
    result = run.invoke(POLICY)
    assert result.exit_code == 2 and "has no survival label" in result.output
