"""One training and what it measured, as one JSON file; a run that has its file is not repeated."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.quality.contenders import SINGLE_TASK, World, overrides
from recsys_mtl.artifacts.commit import atomic_write
from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.evaluation.job import evaluate
from recsys_mtl.ingest.job import ingest, silent
from recsys_mtl.models.model import build_model
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.bundling import build_bundle
from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.load import Loaded, load_pipeline
from recsys_mtl.training.job import HISTORY, train

_MAC_ROWS = 512


@dataclass(frozen=True)
class Setting:
    """What one run trains."""

    model: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Run:
    """What a run measured. Of a single-task model: one training per task, put together."""

    setting: Setting
    config_fp: str
    valid_auc: dict[str, float]
    """At the step with the lowest validation loss."""
    test: dict[str, dict[str, Any]]
    """Task to metric to estimate."""
    regret: dict[str, float]
    """Oracle AUC minus expected AUC, in worlds with known truth."""
    evaluations: dict[str, str]
    """Task to the folder of its predictions."""
    dense_params: int
    macs_per_row: float
    alarms: list[str]
    """`<kind> <layer> <expert or reader>: <verdict of the intervention>`; warnings left out."""

    @property
    def mean_valid_auc(self) -> float:
        """What learning rates are chosen by."""
        return sum(self.valid_auc.values()) / len(self.valid_auc)


def run(world: World, setting: Setting, extra: list[str], home: Path) -> Run:
    """Train and evaluate, or read what was measured before with the same configuration."""
    parts = list(_loaded(world, setting, extra, home))
    config_fp = fingerprint([loaded.pipeline.model_dump(mode="json") for loaded in parts])
    name = f"{setting.model}-lr{setting.lr:g}-seed{setting.seed}.json"
    path = home / "runs" / name
    if path.exists():
        found = json.loads(path.read_text())
        if found["config_fp"] == config_fp:
            return Run(**{**found, "setting": Setting(**found["setting"])})
    result = _together(setting, config_fp, [_measure(loaded) for loaded in parts])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(asdict(result), indent=1).encode())
    return result


def _loaded(world: World, setting: Setting, extra: list[str], home: Path) -> Iterator[Loaded]:
    """The pipelines of a setting: one, or one per task of a single-task model."""
    flags = [
        *overrides(world, setting.model),
        f"training.dense.lr={setting.lr}",
        f"training.seed={setting.seed}",
        "training.threads=1",
        "ingest.engine=local",
        f"home={home}",
        *extra,
    ]
    joint = load_pipeline(world.pipeline, flags)
    if setting.model != SINGLE_TASK:
        yield joint
        return
    tasks = joint.layout.task_names
    for task in tasks:
        silent_tasks = [f"objectives.tasks.{t}.weight=0" for t in tasks if t != task]
        yield load_pipeline(world.pipeline, [*flags, *silent_tasks])


def _measure(loaded: Loaded) -> dict[str, Any]:
    """Everything about one training; tasks of weight 0 are left out."""
    tasks = [t for t in loaded.layout.task_names if loaded.pipeline.objectives.weight(t)]
    ingested = ingest(loaded, None)
    trained = train(loaded, ingested, silent)
    evaluation = evaluate(loaded, load_bundle(build_bundle(loaded, ingested, trained).dir), None)
    history = _read(trained, HISTORY)
    best = {t: dict(map(tuple, history["valid_auc"][t]))[history["best_step"]] for t in tasks}
    metrics = _read(evaluation, "metrics.json")["tasks"]
    oracle = _read(evaluation, "oracle.json") if _has(evaluation, "oracle.json") else {}
    alarms = _read(evaluation, "experts.json") if _has(evaluation, "experts.json") else {}
    params, macs = _cost(loaded, ingested)
    return {
        "valid_auc": best,
        "test": {t: metrics[t] for t in tasks},
        "regret": {t: oracle[t]["regret"] for t in tasks if t in oracle},
        "evaluations": {t: str(evaluation.dir) for t in tasks},
        "dense_params": params,
        "macs_per_row": macs,
        "alarms": [_shown(a) for a in alarms.get("alarms", []) if a["level"] == "alarm"],
    }


def _together(setting: Setting, config_fp: str, parts: list[dict[str, Any]]) -> Run:
    merged = {
        key: {t: v for part in parts for t, v in part[key].items()}
        for key in ("valid_auc", "test", "regret", "evaluations")
    }
    return Run(
        setting,
        config_fp,
        **merged,
        dense_params=sum(part["dense_params"] for part in parts),
        macs_per_row=sum(part["macs_per_row"] for part in parts),
        alarms=[alarm for part in parts for alarm in part["alarms"]],
    )


def _cost(loaded: Loaded, ingested: Manifest) -> tuple[int, float]:
    """Parameters of the dense part, and its multiply-adds per row in scoring."""
    model = build_model(loaded.layout, loaded.pipeline.model, seed=0).eval().requires_grad_(False)
    batch = next(EncodedShards(ingested, loaded.layout).batches("valid", _MAC_ROWS))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embedded = model.embeddings(batch)
        before = counter.get_total_flops()
        model.dense_part(embedded)
        flops = counter.get_total_flops() - before
    params = sum(p.numel() for p in model.dense_part.parameters())
    return params, flops / 2 / batch.num_rows


def _shown(alarm: dict[str, Any]) -> str:
    place = alarm["expert"] or alarm["reader"] or "all"
    return f"{alarm['kind']} {alarm['layer']} {place}: {alarm['verdict']}"


def _read(artifact: Manifest, name: str) -> Any:
    return json.loads(artifact.path(name).read_bytes())


def _has(evaluation: Manifest, name: str) -> bool:
    """Whether an artifact lists a file."""
    return any(entry.path == name for entry in evaluation.files)
