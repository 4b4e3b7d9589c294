"""A small ads product, run once up to its bundle."""

from pathlib import Path

import pytest

from recsys_mtl.cli.stages import Job
from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_world import WorldConfig

PIPELINE = Path(__file__).parents[2] / "pipelines" / "ad_creatives.yaml"
SMALL = WorldConfig(
    num_creatives=900, num_users=300, num_days=30, days_before=20, rows_per_day=1500
)


@pytest.fixture(scope="session")
def ads(tmp_path_factory):
    """Raw logs; read-only."""
    root = tmp_path_factory.mktemp("ads")
    write_world(root, SMALL)
    return root


def overrides(ads, home):
    return [
        f"data.root={ads}",
        f"home={home}",
        "data.window=6d",
        "creatives.test=10d",
        "ingest.workers=1",
        "training.threads=1",
        "training.epochs=4",
        "training.batch_rows=512",
        # So few steps have to be large ones.
        "training.dense.lr=0.002",
        "training.sparse.lr=0.1",
    ]


def open_job(ads, home, *more):
    return Job.open(PIPELINE, [*overrides(ads, home), *more], None, True)


@pytest.fixture(scope="session")
def job(ads, tmp_path_factory):
    """Trained and bundled; read-only."""
    job = open_job(ads, tmp_path_factory.mktemp("home"))
    assert job.bundle
    return job
