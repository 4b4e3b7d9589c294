"""A small simulated feed that tests of whole stages share; made once per session."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from recsys_mtl.simulate.short_video import WorldConfig, write_world
from tests.products import write_product

ROOT = Path(__file__).resolve().parents[1]
SMALL = WorldConfig(num_users=300, num_videos=30, num_days=6, rows_per_day=4000)
REALDATA = os.environ.get("RECSYS_REALDATA")

# A busy machine is no fault of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def feed(tmp_path_factory):
    """Raw logs of a small world; read-only."""
    root = tmp_path_factory.mktemp("feed")
    write_world(root, SMALL)
    return root


def write_pipeline(folder: Path, feed: Path, change=None, change_spec=None) -> Path:
    """A small pipeline on `feed`, with its spec beside it and its artifacts below `folder/out`."""
    pipeline = yaml.safe_load((ROOT / "pipelines" / "short_video.yaml").read_text())
    spec = yaml.safe_load((ROOT / "feature_specs" / "short_video.yaml").read_text())
    pipeline |= {
        "spec": "spec.yaml",
        "home": str(folder / "out"),
        "split": {"valid": "1d", "test": "1d"},
        "ingest": {"engine": "local", "workers": 1, "shard_rows": 4000},
        "training": {
            "seed": 1,
            "batch_rows": 512,
            "epochs": 3,
            "threads": 1,
            "sparse": {"kind": "rowwise_adagrad", "lr": 0.05},
            "checkpoint": {"every_steps": 10, "keep": 2},
        },
    }
    pipeline["data"]["root"] = str(feed)
    pipeline["model"]["tower"] = {"kind": "mmoe", "num_experts": 2, "expert_dim": 16}
    pipeline["gate"]["floors"] = {}
    pipeline["gate"] |= {"min_clusters": 50, "min_positives": 20}
    return write_product(folder, pipeline, spec, change, change_spec)


@pytest.fixture
def pipeline(tmp_path, feed):
    """Path of a small pipeline file."""
    return write_pipeline(tmp_path, feed)
