"""The landmarks artifact: what train, validation, test and live rows may know."""

from datetime import date, timedelta

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.errors import DataError
from recsys_mtl.ingest.landmarks import LIVE, ROWS, landmarks
from recsys_mtl.spec.load import load_pipeline

from .conftest import PIPELINE, SMALL, overrides

END = SMALL.first_day + timedelta(days=SMALL.num_days)
TEST_FROM = END - timedelta(days=10)


@pytest.fixture(scope="module")
def rows(job):
    return read_table(job.landmarks.path(ROWS)).to_pandas()


def test_campaigns_belong_to_one_part(rows):
    parts = rows.groupby("campaign")["part"].nunique()
    assert (parts == 1).all()
    assert set(rows["part"]) == {"train", "valid", "test"}


def test_train_rows_know_nothing_of_the_test_window(rows):
    known = rows[rows["part"] != "test"]
    landmark = np.array([(d - date(1970, 1, 1)).days for d in known["day"]])
    last = landmark - known["landmark"] + known["exit"]
    assert last.max() < (TEST_FROM - date(1970, 1, 1)).days
    assert (rows[rows["part"] == "test"]["day"] >= TEST_FROM).all()


def test_weights_average_to_one_over_train_rows(rows):
    train = rows[rows["part"] == "train"]["ctr_weight"]
    assert train.mean() == pytest.approx(1.0)
    assert train.std() > 0.05


def test_live_creatives_delivered_lately_and_are_not_stopped(job, ads):
    live = read_table(job.landmarks.path(LIVE))
    assert live.num_rows > 10
    assert set(live["day"].to_pylist()) == {END}
    assert pc.count_distinct(live["creative"]).as_py() == live.num_rows
    truth = pq.read_table(ads / "delivery" / f"{END - timedelta(days=1)}.parquet")
    stopped = truth.filter(truth["stopped"])["creative"].to_pylist()
    assert not set(live["creative"].to_pylist()) & set(stopped)
    active = truth.filter(pc.and_(pc.equal(truth["status"], "active"), pc.invert(truth["stopped"])))
    delivering = set(active.filter(pc.greater(active["impressions"], 0))["creative"].to_pylist())
    assert delivering <= set(live["creative"].to_pylist())


def test_an_earlier_end_is_another_artifact_and_a_rerun_the_same(job, ads, tmp_path):
    loaded = load_pipeline(PIPELINE, overrides(ads, tmp_path))
    again = landmarks(loaded, None)
    assert again.sha == job.landmarks.sha
    earlier = landmarks(loaded, (END - timedelta(days=3)).isoformat())
    assert earlier.sha != again.sha
    assert read_table(earlier.path(LIVE))["day"][0].as_py() == END - timedelta(days=3)


def test_a_log_without_files_is_named(ads, tmp_path):
    flags = [*overrides(ads, tmp_path), "creatives.delivery.path=deliveries/{date}.parquet"]
    with pytest.raises(DataError, match=r"deliveries/\{date\}.parquet: no such file"):
        landmarks(load_pipeline(PIPELINE, flags), None)
