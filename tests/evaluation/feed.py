"""A small simulated feed, its pipeline, and a bundle that was hardly trained."""

from pathlib import Path

import pyarrow.parquet as pq

from recsys_mtl.ingest.job import ingest, silent
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.bundling import build_bundle
from recsys_mtl.simulate.short_video import WorldConfig, write_world
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.training.job import train

PIPELINE = Path(__file__).parents[2] / "pipelines" / "short_video.yaml"
WORLD = WorldConfig(num_users=120, num_videos=40, num_days=5, rows_per_day=600)
SMALL = {
    "ingest.engine": "local",
    "ingest.workers": 1,
    "ingest.shard_rows": 250,
    "split.test": "1d",
    "training.epochs": 1,
    "training.threads": 1,
    "model.tower.expert_hidden": "[8]",
    "model.tower.expert_dim": 8,
}


def make_feed(root):
    """Days of 600 rows in row groups of 200, so that a day is three shards."""
    root.mkdir()
    write_world(root, WORLD)
    for path in (root / "impressions").iterdir():
        pq.write_table(pq.read_table(path), path, row_group_size=200)


def load_feed(root, home, *overrides):
    settings = {**SMALL, "data.root": root, "home": home}
    return load_pipeline(PIPELINE, [*(f"{k}={v}" for k, v in settings.items()), *overrides])


def make_bundle(loaded):
    ingested = ingest(loaded, None)
    return load_bundle(build_bundle(loaded, ingested, train(loaded, ingested, silent)).dir)
