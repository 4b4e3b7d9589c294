"""What does the survival head cost beside clicks? CPU time of training per step of the clicks.

    OMP_NUM_THREADS=1 python -m benchmarks.joint [--quick]

Equal: impressions, model below the heads, batches, threads, seed. `clicks alone` is the pipeline
file without its creatives; `clicks and stops` is the file as it is, with the steps on creatives
that come between those on impressions in an epoch. A case is an epoch from shards, its CPU time
over its number of click steps. Target: at most 1.15.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from benchmarks.results import interleaved, report
from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.batches.joint import JointShards
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.cli.stages import Job
from recsys_mtl.ingest.job import ingest
from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_world import WorldConfig
from recsys_mtl.spec.load import Loaded, load_pipeline
from recsys_mtl.training.job import open_shards
from recsys_mtl.training.learner import Learner

TARGET = 1.15
ROOT = Path(__file__).parents[1]
UNIT = "us/click step"
ALONE, JOINT = "clicks alone", "clicks and stops"
_QUICK = WorldConfig(num_creatives=1_000, num_users=300, num_days=30, rows_per_day=4_000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small world, two rounds, no file")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_world(root / "ads", _QUICK if quick else WorldConfig())
        cases = {ALONE: alone(root), JOINT: joint(root)}
        for epoch in cases.values():
            epoch()
        found = interleaved(cases, 2 if quick else 7)
    report("joint", UNIT, found, base=ALONE, is_kept=not quick)
    ratio = median(j / a for j, a in zip(found[JOINT], found[ALONE], strict=True))
    print(f"target {TARGET}: {'met' if ratio <= TARGET else 'missed'}")


def joint(root: Path) -> Callable[[], float]:
    """The pipeline as it is shipped."""
    loaded = load_pipeline(ROOT / "pipelines" / "ad_creatives.yaml", _overrides(root))
    job = Job(loaded, None, quiet=True)
    return _epoch(loaded, job.ingested, job.creatives)


def alone(root: Path) -> Callable[[], float]:
    """The same without its creatives."""
    loaded = load_pipeline(write_without_creatives(root), _overrides(root))
    return _epoch(loaded, ingest(loaded, None))


def write_without_creatives(folder: Path) -> Path:
    """The shipped pipeline and its feature spec without the ad-level source and its label."""
    pipeline = yaml.safe_load((ROOT / "pipelines" / "ad_creatives.yaml").read_text())
    spec = yaml.safe_load((ROOT / "feature_specs" / "ad_creatives.yaml").read_text())
    _drop_creatives(pipeline, spec)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    pipeline["spec"] = "spec.yaml"
    path = folder / "clicks.yaml"
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return path


def _drop_creatives(pipeline: dict[str, Any], spec: dict[str, Any]) -> None:
    pipeline.pop("schedule")
    source = pipeline.pop("creatives")["source"]
    label = spec["sources"].pop(source)["survival"]["name"]
    pipeline["objectives"]["tasks"].pop(label)
    pipeline["gate"]["margins"].pop(label, None)
    pipeline["gate"]["floors"].pop(label, None)
    pipeline["gate"].pop("min_campaigns", None)
    groups = pipeline["model"]["task_groups"]
    pipeline["model"]["task_groups"] = {k: v for k, v in groups.items() if label not in v}
    for part in ("features", "sequences"):
        spec[part] = [item for item in spec[part] if item.get("sources") != [source]]
        for item in spec[part]:
            item.pop("sources", None)
    used = {item.get("table") for item in spec["features"]}
    used |= {field["table"] for sequence in spec["sequences"] for field in sequence["fields"]}
    spec["tables"] = {name: table for name, table in spec["tables"].items() if name in used}


def _overrides(root: Path) -> list[str]:
    flags = [f"data.root={root / 'ads'}", f"home={root / 'out'}", "training.threads=1"]
    return [*flags, "ingest.workers=1"]


def _epoch(
    loaded: Loaded, ingested: Manifest, creatives: Manifest | None = None
) -> Callable[[], float]:
    """CPU time of an epoch over its steps on impressions, in microseconds."""
    shards = open_shards(loaded, ingested, creatives)
    clicks = shards.first if isinstance(shards, JointShards) else shards
    rows = loaded.pipeline.training.batch_rows
    steps = clicks.num_batches("train", rows)
    learner = Learner(loaded.pipeline, loaded.layout)

    def measure() -> float:
        start = time.process_time()
        for batch in shards.batches("train", rows, shuffle=Shuffle(1, 0)):
            learner.step(batch)
        return (time.process_time() - start) / steps * 1e6

    return measure


if __name__ == "__main__":
    main()
