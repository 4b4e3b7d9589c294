"""Versions and aliases in a real MLflow on sqlite."""

import shutil

import pytest
from mlflow.exceptions import MlflowException

from recsys_mtl.errors import IntegrityError, TransientError
from recsys_mtl.registry.bundle import GOLDEN, load_bundle
from recsys_mtl.registry.mlflow_registry import Registry
from recsys_mtl.registry.promote import promote, rollback, verify
from recsys_mtl.registry.signature import scored_columns, signature_of
from recsys_mtl.tracking.mlflow_run import Tracker

from .test_promote_kills import decision


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    return Tracker(tmp_path_factory.mktemp("mlflow"), None, "m")


@pytest.fixture
def run_id(tracker, job):
    return tracker.run(job.bundle.sha, "m", {}, {})


def test_signature_names_what_a_row_to_score_must_have(job):
    bundle = load_bundle(job.bundle.dir)
    columns = scored_columns(bundle)
    assert columns[:3] == ("impression_id", "user_id", "key__time")
    assert {"users.age", "videos.topic", "clicks__video"} < set(columns)
    assert not {"is_click", "key__split"} & set(columns)
    inputs = signature_of(bundle).inputs.input_dict()
    assert str(inputs["user_id"].type) == "DataType.long"
    assert str(inputs["clicks__video"].type) == "Array(Any)"
    assert signature_of(bundle).outputs.input_names() == list(bundle.layout.task_names)


@pytest.mark.slow
def test_a_registration_that_was_cut_short_is_made_once(tracker, job, run_id, monkeypatch):
    registry = Registry(tracker, "once")
    assert registry.by_alias("champion") is None

    def dies(*_):
        raise KeyboardInterrupt

    for moment in ("create_model_version", "set_registered_model_alias"):
        with monkeypatch.context() as patch:
            patch.setattr(registry._client, moment, dies)
            with pytest.raises(KeyboardInterrupt):
                registry.register(job.bundle, run_id)
    first = registry.register(job.bundle, run_id)
    assert registry.register(job.bundle, run_id) == first
    assert registry.versions() == [first]
    assert registry.by_alias("candidate") == first
    assert registry.by_alias("champion") is None
    assert load_bundle(registry.bundle_dir(first)).sha == job.bundle.sha == first.bundle_sha


@pytest.mark.slow
def test_champion_is_loaded_promoted_and_rolled_back_through_mlflow(
    tracker, job, run_id, tmp_path, monkeypatch
):
    import mlflow

    registry = Registry(tracker, "whole")
    first = registry.register(job.bundle, run_id)
    promote(tmp_path, registry, first, decision(first))
    rows = load_golden(job)
    model = mlflow.pyfunc.load_model("models:/whole@champion")
    scores = model.predict(rows.iloc[::-1])
    assert scores.index.tolist() == rows.index[::-1].tolist()
    assert (scores["click"].sort_index() - rows["p__click"]).abs().max() < 1e-6
    with pytest.raises(MlflowException, match="users.age"):
        model.predict(rows.drop(columns="users.age"))
    # A second version with the same files, as if it had been trained; its tag says otherwise.
    client = tracker.client
    source = client.get_model_version("whole", first.version).source
    other = client.create_model_version("whole", source, run_id, {"bundle_sha": "f" * 64})
    second = next(v for v in registry.versions() if v.version == str(other.version))
    with pytest.raises(IntegrityError, match="registered was ffff"):
        promote(tmp_path, registry, second, decision(second, first))
    client.set_model_version_tag("whole", second.version, "bundle_sha", "e" * 64)
    monkeypatch.setattr("recsys_mtl.registry.promote._load", lambda *_: None)
    second = registry.versions()[-1]
    promote(tmp_path, registry, second, decision(second, first))
    assert registry.by_alias("champion") == second
    assert rollback(tmp_path, registry, "too high") == first
    assert registry.by_alias("previous_champion") == second
    assert client.get_model_version("whole", second.version).tags["validation_status"] == "refused"
    assert verify(tmp_path, registry) == 6


@pytest.mark.slow
def test_registered_files_that_changed_are_not_loaded_by_mlflow(tracker, job, run_id):
    import mlflow

    registry = Registry(tracker, "changed")
    version = registry.register(job.bundle, run_id)
    source = registry.bundle_dir(version)
    path = source / "tables" / "video.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="sha256"):
        mlflow.pyfunc.load_model("models:/changed@candidate")
    shutil.rmtree(source)
    with pytest.raises(IntegrityError, match="holds 0 bundles"):
        registry.bundle_dir(version)


def test_a_server_that_is_down_is_waited_for(tracker, monkeypatch):
    registry = Registry(tracker, "down")

    def down(*_):
        raise MlflowException("API request failed: Max retries exceeded: Connection refused")

    monkeypatch.setattr(registry._client, "search_model_versions", down)
    with pytest.raises(TransientError, match="cannot be reached"):
        registry.versions()


def load_golden(job):
    from recsys_mtl.artifacts.commit import read_table

    return read_table(job.bundle.dir / GOLDEN).to_pandas()
