"""Bundles: what loads, scores as it was trained; what was touched, does not load."""

import json
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save

from recsys_mtl.artifacts.commit import entry_of, read_table
from recsys_mtl.artifacts.manifest import MANIFEST, publish
from recsys_mtl.errors import IntegrityError
from recsys_mtl.registry.bundle import GOLDEN, load_bundle


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def republish(folder):
    """Make the manifest fit whatever the files hold now."""
    (folder / MANIFEST).unlink()
    publish(folder, [entry_of(p, folder) for p in files(folder)], {})


def test_one_flipped_bit_in_any_file_is_detected(bundle_copy):
    rng = random.Random(5)
    for path in files(bundle_copy):
        original = path.read_bytes()
        broken = bytearray(original)
        position = rng.randrange(len(broken))
        broken[position] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(broken))
        with pytest.raises(IntegrityError):
            load_bundle(bundle_copy)
        path.write_bytes(original)
    assert load_bundle(bundle_copy).layout.task_names[0] == "click"


@pytest.mark.parametrize("name", ["extra.txt", "tables/extra.safetensors"])
def test_an_added_file_is_detected(bundle_copy, name):
    (bundle_copy / name).write_text("x")
    with pytest.raises(IntegrityError, match="not listed"):
        load_bundle(bundle_copy)


def test_a_removed_file_and_a_removed_manifest_are_detected(bundle_copy):
    (bundle_copy / "lineage.json").unlink()
    with pytest.raises(IntegrityError, match="absent"):
        load_bundle(bundle_copy)
    (bundle_copy / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="not finished"):
        load_bundle(bundle_copy)


def test_a_pickle_is_refused_even_when_it_is_listed(bundle_copy):
    (bundle_copy / "model.pkl").write_bytes(b"\x80\x04.")
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="pickles"):
        load_bundle(bundle_copy)


def test_other_weights_under_a_new_manifest_fail_on_the_golden_rows(bundle_copy):
    path = bundle_copy / "dense.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if n.startswith("heads.0") and n.endswith("bias"))
    weights[name] = weights[name] + 1e-3
    path.write_bytes(save(weights))
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="golden rows score"):
        load_bundle(bundle_copy)


def test_a_scorer_of_another_release_is_refused(bundle_copy):
    path = bundle_copy / "scorer.py"
    path.write_text(path.read_text() + "# changed\n")
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="differs from the installed scorer"):
        load_bundle(bundle_copy)


def test_a_vocabulary_of_another_fit_is_refused(bundle_copy):
    lineage = json.loads((bundle_copy / "lineage.json").read_bytes())
    lineage["fit_fp"] = "0" * 64
    (bundle_copy / "lineage.json").write_text(json.dumps(lineage))
    republish(bundle_copy)
    with pytest.raises(IntegrityError, match="fit_fp"):
        load_bundle(bundle_copy)


def test_scores_depend_on_the_row_alone(job):
    bundle = load_bundle(job.bundle.dir)
    rows = read_table(bundle.dir / GOLDEN).slice(0, 40)
    expected = np.stack([rows[f"p__{t}"].to_numpy() for t in bundle.layout.task_names], 1)
    singly = [bundle.predict(bundle.encode(rows.slice(i, 1))) for i in range(rows.num_rows)]
    np.testing.assert_allclose(np.concatenate(singly), expected, atol=1e-6)
    order = np.random.default_rng(0).permutation(rows.num_rows)
    shuffled = rows.take(pa.array(order)).select(sorted(rows.column_names))
    found = bundle.predict(bundle.encode(shuffled))
    np.testing.assert_allclose(found, expected[order], atol=1e-6)


def test_a_child_is_never_likelier_than_its_parent(job):
    bundle = load_bundle(job.bundle.dir)
    probs = bundle.predict(bundle.encode(read_table(bundle.dir / GOLDEN)))
    for child, parent in enumerate(bundle.layout.parents):
        if parent >= 0:
            assert (probs[:, child] <= probs[:, parent]).all()


def test_scores_that_are_not_finite_are_refused(job):
    bundle = load_bundle(job.bundle.dir)
    with torch.no_grad():
        next(bundle.model.dense_part.parameters()).fill_(torch.nan)
    rows = bundle.encode(read_table(bundle.dir / GOLDEN))
    with pytest.raises(IntegrityError, match="not finite"):
        bundle.predict(rows)


@pytest.mark.slow
def test_mlflow_loads_and_scores_it_in_a_fresh_process_without_ray(job, tmp_path):
    version = job.candidate
    code = f"""
import sys
sys.modules["ray"] = None
import mlflow, numpy as np
mlflow.set_tracking_uri({job.tracker.uri!r})
from recsys_mtl.artifacts.commit import read_table
from pathlib import Path
rows = read_table(Path({str(job.bundle.dir)!r}) / "golden.parquet").to_pandas()
model = mlflow.pyfunc.load_model("models:/{version.name}@candidate")
scores = model.predict(rows)
print(max(np.abs(scores[t] - rows["p__" + t]).max() for t in scores.columns) < 1e-6)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split()[-1:] == ["True"], done.stderr
