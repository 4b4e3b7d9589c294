"""The real logs, where present (RECSYS_REALDATA); bars leave room for one seed's spread."""

import json
from pathlib import Path

import pytest

from recsys_mtl.evaluation.job import evaluate
from recsys_mtl.ingest.job import ingest, silent
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.bundling import build_bundle
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.training.job import train
from tests.conftest import REALDATA, ROOT

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(REALDATA is None, reason="RECSYS_REALDATA names no folder of real data"),
]
BARS = {
    "kuairand": {"is_click": 0.725, "long_view": 0.725, "is_like": 0.82, "is_profile_enter": 0.66},
    "census_income": {"income": 0.94, "marital": 0.99},
}
FOLDER = {"kuairand": "kuairand_pure", "census_income": "census_income"}


@pytest.mark.parametrize("name", list(BARS))
def test_test_auc_on_real_data(name, tmp_path):
    root = Path(str(REALDATA)) / FOLDER[name]
    overrides = [f"data.root={root}", f"home={tmp_path}", "ingest.workers=1", "training.threads=1"]
    loaded = load_pipeline(ROOT / "pipelines" / f"{name}.yaml", overrides)
    ingested = ingest(loaded, None)
    assert ingested.meta["rows_in"] == ingested.meta["rows_out"]
    bundle = load_bundle(build_bundle(loaded, ingested, train(loaded, ingested, silent)).dir)
    evaluation = evaluate(loaded, bundle, None)
    metrics = json.loads(evaluation.path("metrics.json").read_bytes())["tasks"]
    found = {task: metrics[task]["auc"]["value"] for task in BARS[name]}
    assert all(found[task] >= bar for task, bar in BARS[name].items()), found
