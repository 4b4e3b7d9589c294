"""The evaluation of stops as a stage: its rows, its artifact, and where its numbers go."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.cli.evaluate import survival_lines
from recsys_mtl.cli.stages import read_json
from recsys_mtl.evaluation.survival import (
    PREDICTIONS,
    SURVIVAL,
    VALIDATION,
    evaluate_survival,
)
from recsys_mtl.evaluation.survival_measures import headline
from recsys_mtl.ingest.landmarks import ROWS
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.read_outs import stop_column


@pytest.fixture(scope="module")
def evaluation(job):
    return job.survival_evaluated


@pytest.fixture(scope="module")
def report(evaluation):
    return read_json(evaluation, SURVIVAL)


def test_validation_and_test_rows_are_those_of_the_landmarks_with_the_same_columns(job, evaluation):
    raw = read_table(job.landmarks.path(ROWS)).to_pandas().set_index("row_id")
    tables = {
        part: read_table(evaluation.path(name))
        for part, name in (("test", PREDICTIONS), ("valid", VALIDATION))
    }
    assert tables["test"].schema == tables["valid"].schema
    for part, table in tables.items():
        rows = table.to_pandas().set_index("row_id")
        assert set(rows.index) == set(raw.index[raw["part"] == part]) and len(rows)
        expected = raw.loc[rows.index]
        for name in ("landmark", "entry", "exit"):
            np.testing.assert_array_equal(rows[name], expected[name])
        np.testing.assert_array_equal(rows["event"] > 0, expected["stopped"] > 0)
        week = rows[stop_column("stop", 7)]
        assert ((week > 0) & (week < 1)).all() and np.isfinite(rows["nll"]).all()


def test_figures_rest_on_the_predicted_rows(evaluation, report):
    rows = read_table(evaluation.path(PREDICTIONS))
    figures = report["subsets"]["all"]
    assert figures["rows"] == report["rows"] == rows.num_rows
    assert figures["expected"] == pytest.approx(rows["expected"].to_numpy().sum())
    cells = report["observed_over_expected"]
    assert sum(c["expected"] for c in cells) == pytest.approx(figures["expected"])
    for days in (3, 7):
        predicted = report["calibration"]["all"][str(days)]["predicted"]
        assert predicted == pytest.approx(rows[stop_column("stop", days)].to_numpy().mean())
    assert set(report["calibration"]["slices"]) == {"genre"}
    # A creative whose age at the landmark is that of its entry has the published risk.
    assert (rows["entry"].to_numpy() == rows["landmark"].to_numpy()).mean() > 0.9
    assert 0.55 < figures["c"]["short"]["harrell"]["value"] < 1


def test_a_rerun_elsewhere_gives_the_same_bytes(job, evaluation, tmp_path):
    pipeline = job.loaded.pipeline.model_copy(update={"home": str(tmp_path)})
    loaded = replace(job.loaded, pipeline=pipeline)
    again = evaluate_survival(loaded, load_bundle(job.bundle.dir), job.landmarks)
    assert again.dir != evaluation.dir and again.sha == evaluation.sha


def test_slices_are_part_of_what_is_published(job, evaluation):
    unsliced = job.loaded.pipeline.evaluation.model_copy(update={"slices": ()})
    pipeline = job.loaded.pipeline.model_copy(update={"evaluation": unsliced})
    loaded = replace(job.loaded, pipeline=pipeline)
    again = evaluate_survival(loaded, load_bundle(job.bundle.dir), job.landmarks)
    assert again.dir != evaluation.dir
    assert read_json(again, SURVIVAL)["calibration"]["slices"] == {}


def test_headlines_are_logged_to_the_candidates_run(job, report):
    run = job.tracker.client.get_run(job.run_id)
    for name, value in headline(report).items():
        if value["value"] is not None:
            assert run.data.metrics[f"test/stop/{name}"] == pytest.approx(value["value"]), name
    files = {f.path for f in job.tracker.client.list_artifacts(job.run_id)}
    assert SURVIVAL in files and run.info.status == "FINISHED"


def test_the_terminal_gets_four_lines_at_most(job, report):
    blank, *lines = survival_lines(job)
    assert blank == "" and len(lines) <= 4
    short = report["subsets"]["all"]["c"]["short"]["harrell"]["value"]
    assert lines[1].startswith(f"C: short {short:.3f} [")
    assert "long " in lines[1] and "overall " in lines[1]
    assert "observed over expected" in lines[0] and "Kaplan-Meier" in lines[2]
