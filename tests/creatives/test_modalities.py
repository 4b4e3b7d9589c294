"""Raw titles as n-grams and images as given vectors, from the side table to read-outs."""

import shutil

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.ingest.ids import table_ids
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.scoring.creatives import CREATIVES, score_creatives

from .test_ad_level import PIPELINE, open_job

SPEC = PIPELINE.parents[1] / "feature_specs" / "ad_creatives.yaml"
IMAGE = tuple(f"image_{k}" for k in range(8))
TITLE = {"name": "title", "kind": "id_list", "side": "item", "column": "ads.title"}
TITLE |= {"table": "word", "max_len": 20, "separator": " ", "ngrams": 2}
VECTOR = {"name": "image", "kind": "vector", "side": "item", "column": "ads.image", "dim": 8}


@pytest.fixture(scope="module")
def raw(ads, tmp_path_factory):
    """The same logs; the side table has a text, and a list of floats that some rows lack."""
    root = tmp_path_factory.mktemp("raw")
    shutil.copytree(ads / "delivery", root / "delivery")
    table = pq.read_table(ads / "creatives.parquet")
    image = np.stack([table[name].to_numpy() for name in IMAGE], axis=1)
    texts = [" ".join(words) for words in table["title"].to_pylist()]
    known = [row if i % 50 else None for i, row in enumerate(image.tolist())]
    table = table.drop_columns(["title", *IMAGE]).append_column("title", pa.array(texts))
    table = table.append_column("image", pa.array(known, pa.list_(pa.float32())))
    pq.write_table(table, root / "creatives.parquet")
    return root


@pytest.fixture(scope="module")
def job(raw):
    spec = yaml.safe_load(SPEC.read_text())
    kept = [f for f in spec["features"] if f["name"] not in ("title", *IMAGE)]
    spec["features"] = [*kept, TITLE, VECTOR]
    path = raw / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    job = open_job(raw, raw / "out", f"spec={path}")
    assert job.candidate
    return job


def test_they_reach_the_model(job, raw):
    bundle = load_bundle(job.bundle.dir)
    vectors = tuple(f"image__{k}" for k in range(8))
    assert set(vectors) <= set(bundle.layout.dense)
    golden = read_table(bundle.golden)
    encoded = bundle.encode(golden)
    side = pq.read_table(raw / "creatives.parquet").to_pylist()
    of = {row["creative"]: row for row in side}
    rows = [of[creative] for creative in golden["creative"].to_pylist()]
    expected = [row["image"] or [0] * 8 for row in rows]
    found = np.stack([encoded[name].to_numpy() for name in vectors], axis=1)
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-6)
    words = [row["title"].split(" ") for row in rows]
    grams = [[*w, *map(" ".join, zip(w, w[1:], strict=False))][:20] for w in words]
    flat = pa.array([gram for row in grams for gram in row])
    ids = table_ids(flat, bundle.spec.tables["word"], None)
    assert encoded["title"].combine_chunks().flatten().to_pylist() == ids.tolist()


def test_live_creatives_are_scored_and_the_registry_s_model_predicts(job):
    bundle = load_bundle(job.bundle.dir)
    scores = score_creatives(job.loaded, bundle, "1", job.landmarks)
    assert read_table(scores.path(CREATIVES)).num_rows > 20
    model = mlflow.pyfunc.load_model(f"models:/delivery_logs/{job.candidate.version}")
    found = model.predict(read_table(bundle.golden).to_pandas())
    assert np.isfinite(found.to_numpy()).all()
