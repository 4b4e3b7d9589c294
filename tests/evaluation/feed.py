"""A small simulated feed, its pipeline, and a model with known predictions."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recsys_mtl.ingest.fit import FitState
from recsys_mtl.ingest.job import ingest
from recsys_mtl.simulate.short_video import WorldConfig, write_world
from recsys_mtl.spec.layout import compile_layout
from recsys_mtl.spec.load import load_pipeline

PIPELINE = Path(__file__).parents[2] / "pipelines" / "short_video.yaml"
WORLD = WorldConfig(num_users=120, num_videos=40, num_days=5, rows_per_day=600)


def make_feed(root):
    root.mkdir()
    write_world(root, WORLD)


def load_feed(root, home, *overrides):
    local = ["ingest.engine=local", "ingest.workers=1", "ingest.shard_rows=400"]
    local += ["split.test=1d", f"data.root={root}", f"home={home}"]
    return load_pipeline(PIPELINE, [*local, *overrides])


@dataclass
class FakeBundle:
    """Predicts the rate of each video id, end to end; `sha` names it."""

    spec: object
    fit: FitState
    source: str = "impressions"
    sha: str = "a" * 64
    tilt: float = 0.0

    @cached_property
    def layout(self):
        return compile_layout(self.spec, self.source)

    def predict(self, encoded):
        video = encoded["video_id"].to_numpy() % 17 / 17
        step = 0.2 + 0.5 * video + self.tilt
        depth = np.array([_depth(self.layout.parents, t) for t in range(len(self.layout.parents))])
        return step[:, None] ** (1 + depth)


def _depth(parents, task):
    return 0 if parents[task] < 0 else 1 + _depth(parents, parents[task])


def fake_bundle(loaded, **changes):
    manifest = ingest(loaded, None)
    return FakeBundle(loaded.spec, FitState.load(manifest.dir / "fit"), **changes)
