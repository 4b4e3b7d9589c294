"""The simulated feed: its truth is a truth, and needs user x video interactions."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from recsys_mtl.metrics.oracle import expected_auc
from recsys_mtl.simulate.short_video import OUTCOMES, PARENTS, WorldConfig, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root, WorldConfig(num_days=4, rows_per_day=40_000))
    return root


def columns(folder, names):
    table = pq.read_table(folder, columns=names)
    return [table[name].to_numpy() for name in names]


def test_rates_are_those_of_the_truth(world):
    for outcome in OUTCOMES:
        (label,) = columns(world / "impressions", [f"is_{outcome}"])
        (truth,) = columns(world / "oracle", [f"p_{outcome}"])
        error = (label.mean() - truth.mean()) / np.sqrt((truth * (1 - truth)).mean() / len(truth))
        assert abs(error) < 4, outcome
    assert truth.mean() > 0.01  # purchase


def test_outcomes_and_probabilities_keep_the_funnel(world):
    for child, parent in PARENTS.items():
        child_label, parent_label = columns(world / "impressions", [f"is_{child}", f"is_{parent}"])
        assert (child_label <= parent_label).all()
        child_p, parent_p = columns(world / "oracle", [f"p_{child}", f"p_{parent}"])
        assert (child_p <= parent_p).all()


def test_labels_are_calibrated_within_bins_of_the_truth(world):
    (label,) = columns(world / "impressions", ["is_click"])
    (truth,) = columns(world / "oracle", ["p_click"])
    for rows in np.array_split(np.argsort(truth), 10):
        se = np.sqrt((truth[rows] * (1 - truth[rows])).mean() / len(rows))
        assert abs(label[rows].mean() - truth[rows].mean()) < 4.5 * se


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_ones(tmp_path):
    small = {"num_users": 50, "num_videos": 10, "num_days": 1, "rows_per_day": 100}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_world(tmp_path / name, WorldConfig(**small, seed=seed))
    day = "impressions/2026-03-01.parquet"
    a, b, c = ((tmp_path / name / day).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.slow
def test_a_logistic_model_without_interactions_misses_the_oracle_by_more_than_03(world):
    user, video, hour = columns(world / "impressions", ["user_id", "video_id", "hour"])
    inputs = OneHotEncoder().fit_transform(np.stack([user, video, hour], 1))
    train = np.arange(len(user)) < 120_000
    for outcome in OUTCOMES:
        (label,) = columns(world / "impressions", [f"is_{outcome}"])
        (truth,) = columns(world / "oracle", [f"p_{outcome}"])
        model = LogisticRegression(C=0.3, max_iter=60).fit(inputs[train], label[train])
        scores = model.decision_function(inputs[~train])
        best = expected_auc(truth[~train], truth[~train])
        assert best - expected_auc(scores, truth[~train]) > 0.03, outcome
