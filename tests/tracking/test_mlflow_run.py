"""MLflow runs, against a real sqlite store."""

import math

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from recsys_mtl.errors import IntegrityError, TransientError
from recsys_mtl.tracking.mlflow_run import RUN_KEY, Tracker, flatten, reachable, tracking_uri

PARAMS = {"training": {"seed": 7, "dense": {"lr": 0.001}}, "name": "feed", "hidden": [8, 4]}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def tracker(home):
    return Tracker(home, None, "feed")


def test_the_default_store_is_sqlite_below_home(home, tracker):
    assert tracker.uri == tracking_uri(home, None) == f"sqlite:///{home}/mlflow.db"
    assert (home / "mlflow.db").exists()
    assert tracking_uri(home, "http://host:5000") == "http://host:5000"


def test_a_run_carries_its_key_lineage_and_flat_parameters(tracker):
    run_id = tracker.run("k1", "feed", {"recsys.input_fp": "f0"}, PARAMS)
    data = tracker.client.get_run(run_id).data
    assert data.tags[RUN_KEY] == "k1" and data.tags["recsys.input_fp"] == "f0"
    assert data.params == {
        "training.seed": "7",
        "training.dense.lr": "0.001",
        "name": "feed",
        "hidden": "[8, 4]",
    }


def test_a_key_has_one_run_also_for_another_process(home, tracker):
    first = tracker.run("k2", "feed", {}, PARAMS)
    assert Tracker(home, None, "feed").run("k2", "feed", {}, PARAMS) == first
    assert tracker.run("k3", "feed", {}, PARAMS) != first
    assert Tracker(home, None, "other feed").run("k2", "feed", {}, PARAMS) != first


def test_a_changed_parameter_of_a_known_run_stays_as_it_was_first(tracker):
    """The gate's settings, for one, are no part of a training's key."""
    run_id = tracker.run("k4", "feed", {}, PARAMS)
    assert tracker.run("k4", "feed", {}, {**PARAMS, "name": "new"}) == run_id
    assert tracker.client.get_run(run_id).data.params["name"] == "feed"


def test_parameters_that_a_kill_left_out_are_added(tracker, monkeypatch):
    monkeypatch.setattr(Tracker, "_log_params", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        tracker.run("k5", "feed", {}, PARAMS)
    monkeypatch.undo()
    run_id = tracker.run("k5", "feed", {}, PARAMS)
    assert tracker.client.get_run(run_id).data.params == {
        k: str(v) for k, v in flatten(PARAMS).items()
    }


def test_more_parameters_than_one_request_takes_and_long_ones(tracker):
    many = {f"p{i}": i for i in range(250)} | {"long": "x" * 900}
    params = tracker.client.get_run(tracker.run("k6", "feed", {}, many)).data.params
    assert len(params) == 251 and params["p249"] == "249" and params["long"] == "x" * 500


def test_curves_come_back_and_logging_them_twice_changes_nothing(tracker):
    run_id = tracker.run("k7", "feed", {}, PARAMS)
    points = [("valid/click/loss", 0.5 / step, step) for step in range(1, 1001)]
    for _ in range(2):
        tracker.log(run_id, points)
    history = tracker.client.get_metric_history(run_id, "valid/click/loss")
    assert sorted((m.step, m.value) for m in history) == [(s, v) for _, v, s in points]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_refused_with_all_others(tracker, value):
    run_id = tracker.run(f"k8 {value}", "feed", {}, PARAMS)
    with pytest.raises(IntegrityError, match="metrics b are not finite"):
        tracker.log(run_id, [("a", 1.0, 1), ("b", value, 1)])
    assert tracker.client.get_run(run_id).data.metrics == {}


def test_a_finished_run_holds_files_and_tags_and_may_be_finished_again(home, tracker):
    run_id = tracker.run("k9", "feed", {}, PARAMS)
    path = home / "metrics.json"
    path.write_text('{"auc": 0.7}')
    for _ in range(2):
        tracker.finish(run_id, [path], {"recsys.bundle_sha": "b0"})
    run = tracker.client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["recsys.bundle_sha"] == "b0"
    assert [f.path for f in tracker.client.list_artifacts(run_id)] == ["metrics.json"]
    assert run.info.artifact_uri.startswith((home / "mlartifacts").as_uri())


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        OperationalError("select 1", None, Exception("locked")),
        MlflowException("API request to http://host failed: Max retries exceeded"),
    ],
)
def test_a_store_that_is_down_is_worth_a_retry(error):
    with pytest.raises(TransientError, match="http://host: MLflow cannot be reached") as raised:
        with reachable("http://host"):
            raise error
    assert raised.value.exit_code == 75


def test_other_errors_of_mlflow_are_not_hidden():
    with pytest.raises(MlflowException, match="not allowed"), reachable("http://host"):
        raise MlflowException("changing params is not allowed")


def test_nested_settings_become_dotted_names():
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": (1, 2)}) == {
        "a.b.c": 1,
        "a.d": None,
        "e": (1, 2),
    }
