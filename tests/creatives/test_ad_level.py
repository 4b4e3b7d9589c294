"""A pipeline whose rows are all ad-level: from delivery logs to live creatives' read-outs."""

import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.cli.stages import Job
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.read_outs import read_outs
from recsys_mtl.scoring.creatives import CREATIVES

PIPELINE = Path(__file__).parents[2] / "pipelines" / "delivery_logs.yaml"


def open_job(ads, home, *more):
    flags = [f"data.root={ads}", f"home={home}", "creatives.test=10d", "ingest.workers=1"]
    # A few hundred rows make few steps.
    flags += ["training.threads=1", "training.dense.lr=0.003"]
    return Job.open(PIPELINE, [*flags, *more], None, True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def alone(ads, home):
    job = open_job(ads, home)
    assert job.candidate
    return job


def test_it_reads_delivery_logs_and_nothing_else(alone):
    assert alone.loaded.sources == ("creatives",)
    assert alone.creatives is None
    bundle = load_bundle(alone.bundle.dir)
    assert bundle.layout.task_names == ()
    assert {p.name for p in bundle.dir.glob("golden*")} == {"golden_hazards.parquet"}
    assert {"user", "hour", "creative"} & set(bundle.layout.tables) == set()


def test_the_same_rows_as_beside_clicks(alone, job):
    """Rows do not depend on whether clicks are trained as well."""
    ours, theirs = (read_table(j.landmarks.path("rows.parquet")) for j in (alone, job))
    assert ours.equals(theirs)


def test_it_learns_and_is_evaluated(alone):
    report = json.loads(alone.survival_evaluated.path("survival.json").read_text())
    assert 0.6 < report["concordance"]["1"]["value"] < 1
    assert json.loads(alone.evaluated.path("metrics.json").read_text())["tasks"] == {}


def test_a_rerun_gives_the_same_bundle(alone, ads, tmp_path):
    assert open_job(ads, tmp_path).bundle.sha == alone.bundle.sha


def test_the_registered_model_gives_read_outs(alone):
    bundle = load_bundle(alone.bundle.dir)
    golden = read_table(bundle.golden)
    model = mlflow.pyfunc.load_model(f"models:/delivery_logs/{alone.candidate.version}")
    found = model.predict(golden.to_pandas())
    expected, _ = read_outs(bundle, bundle.encode(golden))
    assert list(found) == expected.column_names[1:]
    assert "stop__7d" in found
    np.testing.assert_allclose(found.to_numpy(), expected.drop_columns("row_id").to_pandas())
    assert [spec.name for spec in model.metadata.signature.outputs] == list(found)


def test_live_creatives_are_scored(alone):
    from recsys_mtl.scoring.creatives import score_creatives

    bundle = load_bundle(alone.bundle.dir)
    scores = score_creatives(alone.loaded, bundle, "1", alone.landmarks)
    assert read_table(scores.path(CREATIVES)).num_rows > 20
