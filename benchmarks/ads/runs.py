"""One training through the pipeline and the hazards it predicts, as files.

A training whose JSON file is there with the same configuration is read, not repeated.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from benchmarks.ads.measure import Hazards
from recsys_mtl.artifacts.commit import atomic_write, make_dir, read_table, write_table
from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.cli.stages import Job
from recsys_mtl.ingest.assemble import encode_rows
from recsys_mtl.ingest.context import resolve_inputs, source_context
from recsys_mtl.ingest.landmarks import ROWS, of_creatives
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.registry.bundle import Bundle, load_bundle
from recsys_mtl.simulate.ads_hazards import CAUSES
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.layout import ROW_ID, SPLIT
from recsys_mtl.spec.load import Loaded

_ROOT = Path(__file__).parents[2]
PIPELINE = _ROOT / "pipelines" / "ad_creatives.yaml"
_SPEC = _ROOT / "feature_specs" / "ad_creatives.yaml"
_SIZED = {"advertiser": 50_000, "word": 50_000}
"""Hash buckets for a world of this size; the demo has a twentieth of the advertisers."""


@dataclass(frozen=True)
class Setting:
    """What is trained: overrides of the pipeline file, and a changed feature spec."""

    name: str
    overrides: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    """Features and sequences that are removed."""
    click_rate: str = ""
    """Side table by row id, below the world's folder, whose column `ctr` becomes a feature."""


@dataclass(frozen=True)
class Run:
    """One training."""

    config_fp: str
    valid_nll: float
    """Of the stop task at the step that was kept, weighted as in training."""
    best_step: int
    steps: int
    cpu_s: float
    """Of everything that this run had to make."""
    edges: list[int]
    """Grid of the head."""
    rows: str
    """File of the test rows: columns of the landmarks artifact and a column for each logit."""

    @property
    def hazards(self) -> Hazards:
        """Of the test rows by row id."""
        return hazards_of(pq.read_table(self.rows), self.edges)


def train(setting: Setting, seed: int, common: Sequence[str], world: Path) -> Run:
    """Train and predict the test rows, or read what was measured before.

    Args:
        setting: what to train.
        seed: of the training.
        common: overrides of all settings.
        world: folder of the raw logs; files go below `home` and `runs` in it.
    """
    job = open_job(setting, seed, common, world)
    plain = job.loaded.pipeline.model_dump(mode="json")
    config_fp = fingerprint([plain, job.loaded.spec.model_dump(mode="json")])
    path = world / "runs" / f"{setting.name}-seed{seed}.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found["config_fp"] == config_fp:
            return Run(**found)
    start = time.process_time()
    make_dir(path.parent)
    rows = path.with_suffix(".parquet")
    write_table(rows, _predicted(job.loaded, load_bundle(job.bundle.dir), job.landmarks, world))
    history = job.history
    run = Run(
        config_fp,
        valid_nll=dict(map(tuple, history["valid"]["stop"]))[history["best_step"]],
        best_step=history["best_step"],
        steps=history["steps"],
        cpu_s=time.process_time() - start,
        edges=list(job.loaded.pipeline.model.hazard.edges),
        rows=str(rows),
    )
    atomic_write(path, json.dumps(asdict(run), indent=1).encode())
    return run


def served(
    trained: Setting, given: Setting, seed: int, common: Sequence[str], world: Path
) -> Hazards:
    """Hazards of the test rows of setting `given` by the model that learned from `trained`."""
    job, other = (open_job(s, seed, common, world) for s in (trained, given))
    rows = _predicted(other.loaded, load_bundle(job.bundle.dir), other.landmarks, world)
    return hazards_of(rows, job.loaded.pipeline.model.hazard.edges)


def open_job(setting: Setting, seed: int, common: Sequence[str], world: Path) -> Job:
    """The pipeline of a setting."""
    flags = [
        f"spec={_spec(setting, world)}",
        f"data.root={world}",
        f"home={world / 'home'}",
        f"training.seed={seed}",
        "training.threads=1",
        "ingest.workers=1",
        *common,
        *setting.overrides,
    ]
    if setting.click_rate:
        flags.append(f"creatives.sides.rates.path={setting.click_rate}")
    return Job.open(PIPELINE, flags, None, True)


def _spec(setting: Setting, world: Path) -> Path:
    """The feature spec of a setting, as a file."""
    spec: dict[str, Any] = yaml.safe_load(_SPEC.read_text())
    for part in ("features", "sequences"):
        spec[part] = [item for item in spec[part] if item["name"] not in setting.without]
    if setting.click_rate:
        spec["sources"]["creatives"]["joins"].append({"side": "rates", "key": "row_id"})
        feature = {"name": "ctr", "kind": "number", "column": "rates.ctr"}
        spec["features"].append({**feature, "side": "item", "sources": ["creatives"]})
    fields = [field for sequence in spec["sequences"] for field in sequence["fields"]]
    used = {item.get("table") for item in (*spec["features"], *fields)}
    spec["tables"] = {name: table for name, table in spec["tables"].items() if name in used}
    for name in used & set(_SIZED):
        spec["tables"][name]["ids"]["buckets"] = _SIZED[name]
    text = yaml.safe_dump(spec, sort_keys=False)
    path = make_dir(world / "specs") / f"{fingerprint(text)[:12]}.yaml"
    atomic_write(path, text.encode())
    return path


def _predicted(loaded: Loaded, bundle: Bundle, rows: Manifest, world: Path) -> pa.Table:
    """Test rows by row id, with `z_<cause>_<interval>` float32."""
    narrowed = of_creatives(loaded, rows, ROWS)
    inputs = resolve_inputs(narrowed, None)
    spec = bundle.spec.model_copy(update={"split": narrowed.spec.split})
    out = make_dir(world / "encode")
    with source_context(narrowed, spec, inputs.files, None, out, True) as ctx:
        parts = [encode_rows(shard, ctx, bundle.fit)[1] for shard in inputs.plan.tasks]
    encoded = pa.concat_tables(parts)
    encoded = encoded.filter(pa.array(encoded[SPLIT].to_numpy() == TEST))
    encoded = encoded.take(pa.array(np.argsort(np.array(encoded[ROW_ID].to_pylist()))))
    raw = read_rows(rows, "test")
    assert raw["row_id"].to_pylist() == encoded[ROW_ID].to_pylist()
    z = bundle.hazards(encoded).numpy()
    for q, j in np.ndindex(z.shape[1:]):
        raw = raw.append_column(f"z_{q}_{j}", pa.array(z[:, q, j]))
    return raw


def read_rows(rows: Manifest, *parts: str) -> pa.Table:
    """Rows of a landmarks artifact by row id, of some parts or of all."""
    table = read_table(rows.path(ROWS))
    if parts:
        table = table.filter(pa.array(np.isin(table["part"].to_pylist(), parts)))
    return table.take(pa.array(np.argsort(np.array(table["row_id"].to_pylist()))))


def hazards_of(rows: pa.Table, edges: Sequence[int]) -> Hazards:
    """What was predicted for rows."""
    intervals = range(len(edges) - 1)
    z = [[rows[f"z_{q}_{j}"].to_numpy() for j in intervals] for q in range(len(CAUSES))]
    logits = torch.from_numpy(np.array(z, np.float64).transpose(2, 0, 1))
    return Hazards(logits, torch.tensor(edges))
