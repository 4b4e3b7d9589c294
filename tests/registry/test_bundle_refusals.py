"""What a bundle refuses although its manifest is right, and what it does not depend on."""

import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import yaml
from safetensors.torch import load_file, save

from recsys_mtl.artifacts.commit import atomic_write, entry_of, read_table, write_table
from recsys_mtl.artifacts.manifest import MANIFEST, open_artifact, publish
from recsys_mtl.artifacts.sealed import seal
from recsys_mtl.errors import DataError, IntegrityError
from recsys_mtl.registry.bundle import GOLDEN, load_bundle, loaded_bundle
from recsys_mtl.registry.bundling import build_bundle


def republish(folder):
    """Make the manifest fit whatever the files hold now."""
    (folder / MANIFEST).unlink()
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    publish(folder, [entry_of(p, folder) for p in paths], {})


def edit_json(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


@pytest.mark.parametrize("name", [".hidden", "_x/model.pt", "ckpt/x", "timing.jsonl", "fit/.x"])
def test_a_file_that_other_artifacts_may_hold_beside_their_manifest_is_refused(bundle_copy, name):
    (bundle_copy / name).parent.mkdir(exist_ok=True)
    (bundle_copy / name).write_bytes(b"\x80\x04.")
    with pytest.raises(IntegrityError, match="not listed"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize("target", ["outside", "inside"])
def test_a_link_is_refused_even_to_equal_bytes(bundle_copy, tmp_path, target):
    path = bundle_copy / "model.json"
    other = tmp_path / "model.json" if target == "outside" else bundle_copy / "tables" / "m"
    path.rename(other)
    path.symlink_to(other)
    if target == "inside":
        republish(bundle_copy)
    with pytest.raises(IntegrityError, match="is a link"):
        load_bundle(bundle_copy)


def test_a_path_that_leaves_the_directory_is_refused(bundle_copy, tmp_path):
    (bundle_copy / "model.json").rename(tmp_path / "model.json")
    manifest = json.loads((bundle_copy / MANIFEST).read_bytes())
    entry = next(e for e in manifest["files"] if e["path"] == "model.json")
    entry["path"] = "../model.json"
    del manifest["sha256"]
    (bundle_copy / MANIFEST).write_bytes(seal(manifest))
    with pytest.raises(IntegrityError, match="outside the directory"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["model.zip", "weights.pt", "tables/user.pth", "fit/run.py"])
def test_a_listed_file_that_is_no_part_of_a_bundle_is_refused(bundle_copy, name):
    (bundle_copy / name).write_bytes(b"PK\x03\x04")
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="pickles and archives are refused"):
        load_bundle(bundle_copy)


def test_a_pickle_under_the_name_of_a_table_is_not_unpickled(bundle_copy):
    archive = io.BytesIO()
    torch.save({"weight": torch.zeros(3, 4)}, archive)
    (bundle_copy / "tables" / "user.safetensors").write_bytes(archive.getvalue())
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="not what a bundle holds"):
        load_bundle(bundle_copy)


def test_nothing_is_parsed_before_all_hashes_verify(bundle_copy, monkeypatch):
    path = bundle_copy / "tables" / "video.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    for name in ("load_file", "read_bundle"):
        reader = f"recsys_mtl.registry.bundle.{name}"
        monkeypatch.setattr(reader, lambda *_: pytest.fail("too early"))
    with pytest.raises(IntegrityError, match="sha256"):
        load_bundle(bundle_copy)


def test_a_quality_bound_edited_under_a_new_manifest_is_detected(bundle_copy):
    """It changes no input of the model, so only the spec's own fingerprint shows it."""
    path = bundle_copy / "feature_spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["quality"]["max_null_rate"] = 0.9
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="spec_fp is"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("feature_spec.yaml", "spec_version: 2"),
        ("feature_spec.yaml", "!!python/object/apply:os.getcwd []"),
        ("lineage.json", "[]"),
        ("lineage.json", "{"),
        ("model.json", '{"sources": ["ads"], "model": {}}'),
        ("model.json", '{"sources": ["impressions"], "model": {"tower": {"kind": "plex"}}}'),
        ("fit/fit.json", "{}"),
        ("golden.parquet", "PAR1"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(bundle_copy, name, content):
    (bundle_copy / name).write_text(content)
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match=name):
        load_bundle(bundle_copy)


def test_an_architecture_that_does_not_fit_the_weights_is_refused(bundle_copy):
    path = bundle_copy / "model.json"
    recorded = json.loads(path.read_bytes())["model"]
    recorded["tower"]["expert_dim"] *= 2
    edit_json(path, model=recorded)
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="dense.safetensors"):
        load_bundle(bundle_copy)


def test_nan_in_one_embedding_row_that_no_golden_row_reads_is_refused(bundle_copy):
    path = bundle_copy / "tables" / "user.safetensors"
    weight = load_file(path)["weight"]
    weight[-1, 0] = torch.nan
    path.write_bytes(save({"weight": weight}))
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="weights 'user' are not finite"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize(("shift", "is_refused"), [(2e-6, True), (5e-7, False)])
def test_golden_rows_may_differ_by_a_millionth(bundle_copy, shift, is_refused):
    rows = read_table(bundle_copy / GOLDEN)
    shifted = pc.add(rows["p__click"], shift)
    rows = rows.set_column(rows.column_names.index("p__click"), "p__click", shifted)
    write_table(bundle_copy / GOLDEN, rows)
    republish(bundle_copy)
    if is_refused:
        with pytest.raises(IntegrityError, match=r"golden rows score 2\.\d\de-06 off"):
            load_bundle(bundle_copy)
    else:
        assert load_bundle(bundle_copy).layout.task_names[0] == "click"


def test_a_bundle_without_golden_rows_is_refused(bundle_copy):
    write_table(bundle_copy / GOLDEN, read_table(bundle_copy / GOLDEN).slice(0, 0))
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="holds no rows"):
        load_bundle(bundle_copy)


def test_a_bundle_is_loaded_once_per_process_and_only_as_what_was_asked_for(job):
    first = loaded_bundle(job.bundle.dir, job.bundle.sha)
    assert loaded_bundle(job.bundle.dir, job.bundle.sha) is first
    with pytest.raises(IntegrityError, match="is bundle"):
        loaded_bundle(job.bundle.dir, "0" * 64)


def test_building_again_gives_the_same_bytes(job, tmp_path):
    pipeline = job.loaded.pipeline.model_copy(update={"home": str(tmp_path)})
    again = build_bundle(
        dataclasses.replace(job.loaded, pipeline=pipeline), job.ingested, job.trained
    )
    assert again.dir != job.bundle.dir
    assert again.sha == job.bundle.sha


def test_weights_of_other_shards_are_not_bundled(job, tmp_path):
    pipeline = job.loaded.pipeline.model_copy(update={"home": str(tmp_path)})
    loaded = dataclasses.replace(job.loaded, pipeline=pipeline)
    other = dataclasses.replace(job.ingested, meta={**job.ingested.meta, "run_key": "0" * 64})
    with pytest.raises(IntegrityError, match="was not trained on the shards"):
        build_bundle(loaded, other, job.trained)


def test_weights_that_changed_after_training_are_not_bundled(job, tmp_path):
    """The manifest was opened and verified before the bit flipped."""
    copy = tmp_path / "train"
    shutil.copytree(job.trained.dir, copy)
    trained = open_artifact(copy)
    data = bytearray((copy / "dense.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "dense.safetensors").write_bytes(data)
    pipeline = job.loaded.pipeline.model_copy(update={"home": str(tmp_path / "out")})
    with pytest.raises(IntegrityError, match="changed after it was written"):
        build_bundle(dataclasses.replace(job.loaded, pipeline=pipeline), job.ingested, trained)
    assert not list((tmp_path / "out").rglob(MANIFEST))


def test_lineage_says_what_the_model_was_made_of(job):
    lineage, meta = load_bundle(job.bundle.dir).lineage, job.ingested.meta
    for name in ("spec_fp", "input_fp", "fit_fp", "data_fp", "interval", "splits"):
        assert lineage[name] == meta[name]
    assert lineage["trained_until_us"] == meta["splits"]["valid"]["max_time_us"]
    assert lineage["trained_until_us"] < meta["splits"]["test"]["min_time_us"]
    assert lineage["train_run_key"] == job.trained.meta["run_key"]
    assert lineage["seed"] == job.loaded.pipeline.training.seed


def test_many_rows_are_predicted_in_parts(job):
    """The last part is short: 20,000 rows are two parts of 8,192 and one of 3,616."""
    bundle = load_bundle(job.bundle.dir)
    encoded = bundle.encode(read_table(bundle.dir / GOLDEN))
    copies = -(-20_000 // encoded.num_rows)
    many = pa.concat_tables([encoded] * copies).slice(0, 20_000)
    expected = np.tile(bundle.predict(encoded), (copies, 1))[:20_000]
    np.testing.assert_allclose(bundle.predict(many), expected, atol=1e-6)
    assert bundle.predict(encoded.slice(0, 0)).shape == (0, 5)


def test_predictions_do_not_depend_on_the_number_of_threads(job):
    bundle = load_bundle(job.bundle.dir)
    encoded = bundle.encode(read_table(bundle.dir / GOLDEN)).slice(0, 7)
    before, digests = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            digests.add(hashlib.sha256(bundle.predict(encoded).tobytes()).hexdigest())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_missing_numbers_are_scored_and_infinite_ones_refused(job):
    bundle = load_bundle(job.bundle.dir)
    rows = read_table(bundle.dir / GOLDEN).slice(0, 2)
    position = rows.column_names.index("users.age")
    missing = rows.set_column(position, "users.age", pa.array([None, np.nan], pa.float64()))
    assert np.isfinite(bundle.predict(bundle.encode(missing))).all()
    infinite = rows.set_column(position, "users.age", pa.array([1.0, np.inf]))
    with pytest.raises(DataError, match="infinity"):
        bundle.encode(infinite)


def test_a_bundle_that_is_being_built_is_not_built_twice(job, tmp_path, monkeypatch):
    """Killed before its manifest, it is nothing; rerun, it is the same bundle."""
    pipeline = job.loaded.pipeline.model_copy(update={"home": str(tmp_path)})
    loaded = dataclasses.replace(job.loaded, pipeline=pipeline)

    def dies(path, data):
        if path.name == "scorer.py":
            raise KeyboardInterrupt
        atomic_write(path, data)

    monkeypatch.setattr("recsys_mtl.registry.bundling.atomic_write", dies)
    with pytest.raises(KeyboardInterrupt):
        build_bundle(loaded, job.ingested, job.trained)
    assert not list(tmp_path.rglob(MANIFEST))
    monkeypatch.undo()
    assert build_bundle(loaded, job.ingested, job.trained).sha == job.bundle.sha
