"""Scores of a day: every row once, the champion's own transform, the same bytes whoever writes."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.artifacts.manifest import MANIFEST, open_artifact
from recsys_mtl.artifacts.plan import make_plan
from recsys_mtl.cli.stages import Job
from recsys_mtl.errors import ConfigError, DataError, IntegrityError
from recsys_mtl.ingest.assemble import assemble
from recsys_mtl.ingest.job import source_context
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.scoring import job as module
from recsys_mtl.scoring.job import CURRENT, score
from recsys_mtl.spec.interval import DAY_US
from recsys_mtl.spec.load import load_pipeline
from tests.conftest import write_pipeline

LAST = "2026-03-06.parquet"
TASKS = ["click", "long_view", "like", "follow", "purchase"]


class Killed(BaseException):
    """A kill that no handler of expected failures sees."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory, feed):
    """The shared feed; the last day's candidates are in no order, and in 4 row groups (shards)."""
    root = tmp_path_factory.mktemp("logs") / "data"
    shutil.copytree(feed, root)
    path = root / "candidates" / LAST
    rows = pq.read_table(path)
    rows = rows.take(np.random.default_rng(3).permutation(rows.num_rows))
    pq.write_table(rows, path, row_group_size=-(-rows.num_rows // 4))
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, logs):
    job = Job.open(write_pipeline(tmp_path_factory.mktemp("train"), logs), None, None, quiet=True)
    return load_bundle(job.bundle.dir)


@pytest.fixture
def load(tmp_path, logs):
    """Makes pipelines on `logs` with their own home."""

    def make(home="out", root=logs, **scoring):
        def change(pipeline):
            pipeline["data"]["root"] = str(root)
            pipeline["scoring"] |= {"shard_rows": 100} | scoring

        return load_pipeline(write_pipeline(tmp_path / home, logs, change))

    return make


def rows_of(manifest):
    names = [e.path for e in manifest.files if e.path.endswith(".parquet")]
    return pa.concat_tables(read_table(manifest.path(name)) for name in names)


def files_of(manifest):
    return {entry.path: manifest.path(entry.path).read_bytes() for entry in manifest.files}


def nothing_published(loaded):
    return not list(loaded.home.rglob(MANIFEST)) and not list(loaded.home.rglob(CURRENT))


def with_rows(tmp_path, logs, change):
    """A copy of the logs whose last candidates were changed."""
    root = tmp_path / "changed"
    shutil.copytree(logs, root)
    path = root / "candidates" / LAST
    rows = change(pq.read_table(path))
    pq.write_table(rows, path, row_group_size=-(-rows.num_rows // 4))
    return root


def test_every_row_of_the_last_day_is_scored_once_in_order_of_its_id_within_a_shard(
    load, bundle, logs
):
    manifest = score(load(), bundle, "7", None)
    raw = pq.read_table(logs / "candidates" / LAST)
    rows, ids = rows_of(manifest), raw["impression_id"].to_pylist()
    size = -(-len(ids) // 4)
    shards = [sorted(ids[start : start + size]) for start in range(0, len(ids), size)]
    assert rows["row_id"].to_pylist() == [row for shard in shards for row in shard]
    assert rows.column_names == ["row_id", *TASKS]
    assert manifest.meta["rows"] == len(set(ids)) == raw.num_rows


def test_scores_are_the_bundles_predictions_of_the_assembled_rows(tmp_path, load, bundle):
    """Assembled here in one piece, scored there in four shards."""
    loaded = load()
    manifest = score(loaded, bundle, "7", None)
    files, interval = module.resolve_files(loaded, None, loaded.pipeline.scoring.rows, days=1)
    (task,) = make_plan(files.root, files.rows, 10**9).tasks
    with source_context(loaded, bundle.spec, files, interval, tmp_path, False) as ctx:
        table = assemble(task, ctx).table.sort_by("impression_id")
    expected = bundle.predict(bundle.encode(table))
    rows = rows_of(manifest).sort_by("row_id")
    for position, name in enumerate(TASKS):
        np.testing.assert_allclose(rows[name].to_numpy(), expected[:, position], atol=1e-6)
    assert rows["click"].to_numpy().std() > 0.01


def test_scores_of_a_chain_are_end_to_end(load, bundle):
    rows = rows_of(score(load(), bundle, "7", None))
    for child, parent in (("long_view", "click"), ("like", "long_view"), ("purchase", "click")):
        assert (rows[child].to_numpy() <= rows[parent].to_numpy()).all()


def test_manifest_says_who_scored_what(load, bundle):
    meta = score(load(), bundle, "7", "2026-03-04").meta
    assert (meta["model"], meta["version"]) == ("short_video", "7")
    assert meta["bundle_sha"] == bundle.sha
    assert meta["fit_fp"] == bundle.lineage["fit_fp"]
    interval = meta["interval"]
    assert interval["end_us"] - interval["start_us"] == DAY_US
    assert interval["end_us"] == 1772582400 * 10**6


def test_rows_go_through_the_bundles_spec_not_the_pipelines(load, bundle):
    """The pipeline has moved on to a spec that reads a column that nobody delivers yet."""
    loaded = load()
    feature = loaded.spec.features[0].model_copy(update={"name": "x", "column": "not_there"})
    spec = loaded.spec.model_copy(update={"features": (*loaded.spec.features, feature)})
    manifest = score(dataclasses.replace(loaded, spec=spec), bundle, "7", None)
    assert files_of(manifest) == files_of(score(load("other"), bundle, "7", None))


def test_only_the_tasks_asked_for_are_written(load, bundle):
    rows = rows_of(score(load(columns=["purchase", "click"]), bundle, "7", None))
    assert rows.column_names == ["row_id", "purchase", "click"]
    both = rows_of(score(load("all"), bundle, "7", None))
    assert rows["purchase"].equals(both["purchase"])


def test_a_bundle_that_does_not_predict_what_is_asked_for_is_refused(load, bundle):
    without = dataclasses.replace(
        bundle, layout=dataclasses.replace(bundle.layout, tasks=bundle.layout.tasks[:2])
    )
    loaded = load(columns=["click", "purchase"])
    with pytest.raises(ConfigError, match="no task 'purchase'; it predicts click, long_view"):
        score(loaded, without, "7", None)
    with pytest.raises(ConfigError, match="but the bundle predicts 'ads'"):
        score(loaded, ads(bundle), "7", None)
    assert nothing_published(loaded)


def ads(bundle):
    sources = {**bundle.spec.sources, "ads": bundle.spec.sources["impressions"]}
    spec = bundle.spec.model_copy(update={"sources": sources})
    return dataclasses.replace(bundle, sources=("ads",), spec=spec)


def test_a_side_table_that_the_pipeline_no_longer_declares_is_named(load, bundle):
    loaded = load()
    data = loaded.pipeline.data.model_copy(update={"sides": {}})
    pipeline = loaded.pipeline.model_copy(update={"data": data})
    with pytest.raises(ConfigError, match="the bundle reads 'users'"):
        score(dataclasses.replace(loaded, pipeline=pipeline), bundle, "7", None)


def test_a_finished_job_is_returned_and_progress_counts_rows(load, bundle, logs):
    loaded, seen = load(), []
    first = score(loaded, bundle, "7", None, lambda *a, **numbers: seen.append((*a, numbers)))
    assert [(done, total) for done, total, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen[-1][2]["rows"] == pq.read_metadata(logs / "candidates" / LAST).num_rows
    again = score(loaded, bundle, "7", None, lambda *a, **_: pytest.fail("scored again"))
    assert again.sha == first.sha


def test_another_shard_size_is_another_artifact(load, bundle):
    loaded = load()
    first = score(loaded, bundle, "7", None)
    scoring = loaded.pipeline.scoring.model_copy(update={"shard_rows": 10**6})
    pipeline = loaded.pipeline.model_copy(update={"scoring": scoring})
    second = score(dataclasses.replace(loaded, pipeline=pipeline), bundle, "7", None)
    assert second.dir != first.dir
    likes = [rows_of(m).sort_by("row_id")["like"].to_numpy() for m in (first, second)]
    np.testing.assert_allclose(*likes, atol=1e-6)


@pytest.mark.slow
def test_workers_write_the_same_bytes(load, bundle):
    one, loaded = score(load("1"), bundle, "7", None), load("2")
    ingest = loaded.pipeline.ingest.model_copy(update={"workers": 2})
    pipeline = loaded.pipeline.model_copy(update={"ingest": ingest})
    two = score(dataclasses.replace(loaded, pipeline=pipeline), bundle, "7", None)
    assert two.sha == one.sha
    assert files_of(two) == files_of(one)


@pytest.mark.parametrize("at", [1, 2, 4, "publish"])
def test_rerun_after_a_kill_writes_the_same_bytes(load, bundle, monkeypatch, at):
    straight, loaded, predicted = score(load("1"), bundle, "7", None), load("2"), []

    def dying(probs):
        predicted.append(len(probs))
        if len(predicted) == at:
            raise Killed
        return probs

    monkeypatch.setattr(module, "loaded_bundle", lambda *_: Predicting(bundle, dying))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at == "publish":
            patch.setattr(module, "publish", lambda *_: die())
        score(loaded, bundle, "7", None)
    assert nothing_published(loaded)
    resumed = score(loaded, bundle, "7", None)
    assert resumed.sha == straight.sha
    assert files_of(resumed) == files_of(straight)
    assert len(predicted) == 4 + (at != "publish")


def die():
    raise Killed


class Predicting:
    """A bundle whose predictions pass through `change`, in this process."""

    def __init__(self, bundle, change):
        self._bundle, self._change = bundle, change

    def __getattr__(self, name):
        return getattr(self._bundle, name)

    def predict(self, encoded):
        return self._change(self._bundle.predict(encoded))


def current(loaded):
    path = loaded.home / "short_video" / "scores" / CURRENT
    pointer = json.loads(path.read_bytes())
    manifest = open_artifact(path.parent / pointer["directory"])
    assert manifest.sha == pointer["manifest_sha"]
    return manifest


def test_pointer_follows_what_was_scored_last_and_never_what_failed(load, bundle, monkeypatch):
    loaded = load()
    score(loaded, bundle, "7", "2026-03-06")
    assert current(loaded).meta["version"] == "7"
    score(loaded, bundle, "8", "2026-03-06")
    assert current(loaded).meta["version"] == "8"
    nan = load_bundle(bundle.dir)
    with torch.no_grad():
        next(nan.model.dense_part.heads[nan.layout.task_names.index("like")].parameters()).fill_(
            torch.nan
        )
    monkeypatch.setattr(module, "loaded_bundle", lambda *_: nan)
    with pytest.raises(IntegrityError, match="not finite, the first of task 'like'"):
        score(loaded, bundle, "9", "2026-03-06")
    assert current(loaded).meta["version"] == "8"
    score(loaded, bundle, "7", "2026-03-06")
    assert current(loaded).meta["version"] == "7"


@pytest.mark.parametrize("apart", [1, -1])
def test_a_row_id_that_stands_twice_publishes_nothing(tmp_path, load, bundle, logs, apart):
    """Beside its copy, and in the last shard when its copy is in the first."""

    def repeat(rows):
        ids = rows["impression_id"].to_pylist()
        ids[apart] = ids[0]
        return rows.set_column(0, "impression_id", pa.array(ids))

    loaded = load(root=with_rows(tmp_path, logs, repeat))
    with pytest.raises(DataError, match="1 rows repeat the id of another") as refused:
        score(loaded, bundle, "7", None)
    assert refused.value.problems[0].code == "D071"
    assert nothing_published(loaded)


def test_a_row_without_a_user_publishes_nothing(tmp_path, load, bundle, logs):
    def lose(rows):
        users = [None, *rows["user_id"].to_pylist()[1:]]
        return rows.set_column(rows.column_names.index("user_id"), "user_id", pa.array(users))

    loaded = load(root=with_rows(tmp_path, logs, lose))
    with pytest.raises(DataError, match="1 rows have no group or time"):
        score(loaded, bundle, "7", None)
    assert nothing_published(loaded)


def test_a_missing_column_is_named_with_its_file(tmp_path, load, bundle, logs):
    loaded = load(root=with_rows(tmp_path, logs, lambda rows: rows.drop(["hour"])))
    with pytest.raises(DataError, match=rf"{LAST}: column 'hour' is missing"):
        score(loaded, bundle, "7", None)
    assert nothing_published(loaded)


def test_ids_of_another_type_in_one_shard_are_refused(tmp_path, load, bundle, logs):
    """Partitions may differ in type; here one score file is rewritten as strings."""
    loaded = load()
    real = module.write_table

    def as_text(path, table, root):
        if "part-00002" in path.name:
            table = table.set_column(0, "row_id", table["row_id"].cast(pa.string()))
        return real(path, table, root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_table", as_text)
        with pytest.raises(DataError, match="int64 and string"):
            score(loaded, bundle, "7", None)
    assert nothing_published(loaded)
