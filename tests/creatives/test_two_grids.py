"""The paper's two terms through the pipeline: one stop on two grids, weighted by 1 + CTR."""

import json

import numpy as np
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.read_outs import curve_column, stop_column
from recsys_mtl.scoring.creatives import score_creatives

from .conftest import open_job


@pytest.fixture(scope="module")
def paper(ads, tmp_path_factory):
    job = open_job(
        ads,
        tmp_path_factory.mktemp("paper"),
        "model.hazard.kind=two_grids",
        "creatives.ctr_weight=paper",
    )
    assert job.bundle
    return job


def test_weights_are_one_plus_the_click_rate(paper):
    rows = read_table(paper.landmarks.path("rows.parquet"))
    clicks, impressions = rows["clicks"].to_numpy(), rows["impressions"].to_numpy()
    expected = 1 + clicks / np.maximum(impressions, 1)
    np.testing.assert_allclose(rows["ctr_weight"].to_numpy(), expected)
    assert expected.max() > 1


def test_the_model_ranks_young_creatives(paper):
    report = json.loads(paper.survival_evaluated.path("survival.json").read_text())
    assert 0.6 < report["concordance"]["1"]["value"] < 1


def test_curves_are_read_out_as_from_daily_hazards(paper):
    bundle = load_bundle(paper.bundle.dir)
    scores = score_creatives(paper.loaded, bundle, "1", paper.landmarks)
    rows = read_table(scores.path("creatives.parquet")).to_pandas()
    week = rows[stop_column("stop", 7)]
    assert ((week > 0) & (week < 1)).all()
    np.testing.assert_allclose(1 - rows[curve_column("stop", 7)], week, atol=1e-9)
    causes = {c: rows[stop_column("stop", 7, c)] for c in ("cut_out", "wear_out")}
    np.testing.assert_allclose(sum(causes.values()), week, atol=1e-9)
    # Days up to age + 7: before day 10 a stop is a cut-out, from then on wear-out.
    assert (causes["wear_out"][rows["age"] <= 2] < 1e-9).all()
    assert (causes["cut_out"][rows["age"] >= 9] < 1e-9).all()


def test_it_is_evaluated_on_the_same_days(paper, job):
    """Likelihoods per day are comparable with those of daily hazards, whatever was trained."""
    found, daily = (
        read_table(j.survival_evaluated.path("predictions.parquet")) for j in (paper, job)
    )
    assert found["row_id"].equals(daily["row_id"])
    assert found["nll"].to_numpy().mean() == pytest.approx(daily["nll"].to_numpy().mean(), rel=0.2)
