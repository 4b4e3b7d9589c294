"""Days of test creatives: scored as the landmark rows and the live creatives of that day are."""

from datetime import timedelta

import numpy as np
import pyarrow.compute as pc
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.ingest.landmarks import DAYS, LIVE, ROWS, landmarks
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.scoring.creatives import score_days
from recsys_mtl.spec.load import load_pipeline

from .conftest import PIPELINE, SMALL, overrides

END = SMALL.first_day + timedelta(days=SMALL.num_days)


@pytest.fixture(scope="module")
def days(job):
    return score_days(job.loaded, load_bundle(job.bundle.dir), job.landmarks)


def test_they_are_of_test_campaigns_inside_the_test_window(job):
    rows = read_table(job.landmarks.path(ROWS)).to_pandas()
    table = read_table(job.landmarks.path(DAYS)).to_pandas()
    test = set(rows[rows["part"] == "test"]["campaign"])
    others = set(rows[rows["part"] != "test"]["campaign"])
    assert test <= set(table["campaign"]) and not others & set(table["campaign"])
    assert table["day"].min() == END - timedelta(days=10)
    assert table["day"].max() == END - timedelta(days=1)
    assert not table.duplicated(["creative", "day"]).any()


def test_a_day_that_is_a_landmark_has_its_label_and_its_read_outs(job, days):
    table = read_table(days.path(DAYS)).to_pandas().set_index("row_id")
    predicted = read_table(job.survival_evaluated.path("predictions.parquet")).to_pandas()
    predicted = predicted.set_index("row_id")
    predicted = predicted[predicted["entry"] == predicted["landmark"]]
    same = table.loc[predicted.index]
    assert len(same) > 50
    for name in ("entry", "exit", "stop__7d", "stop__cut_out__3d"):
        np.testing.assert_allclose(same[name], predicted[name], atol=1e-6)
    assert (same["stopped"] == (predicted["event"] > 0)).all()


def test_a_day_shows_what_the_live_table_showed_that_day(job, ads, tmp_path):
    """Nobody could have seen more: counts, histories and ages are those of the day itself."""
    day = END - timedelta(days=4)
    table = read_table(job.landmarks.path(DAYS))
    table = table.filter(pc.and_(pc.equal(table["day"], day), table["seen_alive"]))
    table = table.sort_by("row_id")
    loaded = load_pipeline(PIPELINE, overrides(ads, tmp_path))
    live = read_table(landmarks(loaded, day.isoformat()).path(LIVE))
    live = live.filter(pc.is_in(live["row_id"], table["row_id"].combine_chunks()))
    live = live.sort_by("row_id")
    known = ["row_id", "landmark", "impressions", "clicks", "spend", "daily_clicks", "planned_end"]
    assert table.num_rows > 10
    assert live.select(known).to_pylist() == table.select(known).to_pylist()


def test_days_are_scored_once(job, days):
    assert score_days(job.loaded, load_bundle(job.bundle.dir), job.landmarks).sha == days.sha
