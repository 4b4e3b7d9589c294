"""A tiny ads product, from whose logs tests break one thing at a time."""

from pathlib import Path

import yaml

from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_world import WorldConfig
from tests.conftest import ROOT
from tests.products import write_product

TINY = WorldConfig(num_creatives=400, num_users=60, num_days=16, days_before=20, rows_per_day=400)
"""16 days from 2026-03-01 on."""
NAME = "ad_creatives"


def write_logs(root: Path) -> Path:
    write_world(root, TINY)
    return root


def write_ads_pipeline(folder: Path, logs: Path, change=None, change_spec=None) -> Path:
    """The pipeline of simulated ads, made small, on `logs`; artifacts go below `folder/out`."""
    pipeline = yaml.safe_load((ROOT / "pipelines" / f"{NAME}.yaml").read_text())
    spec = yaml.safe_load((ROOT / "feature_specs" / f"{NAME}.yaml").read_text())
    pipeline |= {"spec": "spec.yaml", "home": str(folder / "out")}
    pipeline["data"] |= {"root": str(logs), "window": "6d"}
    pipeline["creatives"]["test"] = "5d"
    pipeline.pop("schedule", None)
    pipeline["gate"] = {"margins": {"click": {"auc": 0.005}}, "ungated": ["stop"]}
    pipeline["ingest"] = {"engine": "local", "workers": 1, "shard_rows": 4000}
    pipeline["training"] |= {
        "batch_rows": 512,
        "epochs": 1,
        "threads": 1,
        "checkpoint": {"every_steps": 4, "keep": 2},
    }
    return write_product(folder, pipeline, spec, change, change_spec)
