"""The bundle: everything a model needs to score, verified before a weight is used.

Files: `feature_spec.yaml` (resolved), `model.json`, `fit/`, `dense.safetensors`,
`tables/<table>.safetensors`, `golden.parquet` (assembled rows with their scores), `lineage.json`,
`scorer.py`, and MANIFEST.json last. No pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from safetensors.torch import load_file

from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import code_version, run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.state import load_plain_state
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.ingest.fit import FitState, fit_fp
from recsys_mtl.ingest.job import FIT, SAMPLE
from recsys_mtl.ingest.transform import encode
from recsys_mtl.models.model import MultiTaskModel, build_model
from recsys_mtl.registry.predictions import prob_column
from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.fingerprint import input_fp
from recsys_mtl.spec.layout import Layout, compile_layout
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.model_config import ModelConfig

GOLDEN, LINEAGE, MODEL, SPEC, SCORER = (
    "golden.parquet",
    "lineage.json",
    "model.json",
    "feature_spec.yaml",
    "scorer.py",
)
TOLERANCE = 1e-6
"""Largest difference of a golden row's probability after a reload."""
_PREDICT_ROWS = 8192
_REFUSED = {".pkl", ".pickle", ".pt", ".pth", ".zip", ".joblib"}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded model with the transform that its rows go through."""

    dir: Path
    sha: str
    """sha256 of MANIFEST.json: the model's identity."""
    spec: FeatureSpec
    source: str
    layout: Layout
    fit: FitState
    model: MultiTaskModel
    lineage: Mapping[str, Any]

    def encode(self, assembled: pa.Table) -> pa.Table:
        """Assembled rows without labels as model inputs."""
        return encode(assembled, self.spec, self.source, self.fit, with_labels=False)

    def predict(self, encoded: pa.Table) -> np.ndarray:
        """End-to-end probabilities of B encoded rows, float64[B, T], tasks as in the layout.

        Raises:
            IntegrityError: if a probability is not finite.
        """
        parts = [np.empty((0, len(self.layout.tasks)))]
        with torch.no_grad():
            for start in range(0, encoded.num_rows, _PREDICT_ROWS):
                batch = to_batch(encoded.slice(start, _PREDICT_ROWS), self.layout)
                log_p, _ = self.model.predict_log_probs(batch)
                parts.append(np.exp(log_p.double().numpy()))
        probs = np.concatenate(parts)
        bad = ~np.isfinite(probs)
        if bad.any():
            task = self.layout.task_names[int(bad.any(0).argmax())]
            message = f"{int(bad.sum()):,} scores of {task} are not finite"
            raise IntegrityError(Problem(str(self.dir), message, "Roll back, then retrain."))
        return probs


def build_bundle(loaded: Loaded, ingested: Manifest, trained: Manifest) -> Manifest:
    """Bundle trained weights with everything they need, or return the published bundle."""
    config = loaded.pipeline.model
    key = run_key("bundle", ingest=ingested.sha, train=trained.sha)
    out = stage_dir(loaded.home, loaded.pipeline.name, "bundle", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out / "tables")
        entries = [_copy(trained, name, out) for name in _weights(trained)]
        fit = FitState.load(ingested.dir / FIT)
        entries += fit.save(out / FIT, out)
        plain = loaded.spec.model_dump(mode="json", exclude_none=True)
        source = loaded.pipeline.data.source
        texts = {
            SPEC: yaml.safe_dump(plain, sort_keys=False).encode(),
            MODEL: canonical({"source": source, "model": config.model_dump(mode="json")}),
            LINEAGE: canonical(_lineage(loaded, ingested, trained)),
            SCORER: _installed_scorer().read_bytes(),
        }
        for name, data in texts.items():
            atomic_write(out / name, data)
            entries.append(entry_of(out / name, out))
        model = _model(out, compile_layout(loaded.spec, source), config)
        unsealed = Bundle(out, "", loaded.spec, source, loaded.layout, fit, model, {})
        entries.append(_golden(unsealed, ingested))
        return publish(out, entries, {"run_key": key, "input_fp": input_fp(loaded.spec)})


def _weights(trained: Manifest) -> list[str]:
    return [e.path for e in trained.files if e.path.endswith(".safetensors")]


def _copy(trained: Manifest, name: str, out: Path) -> FileEntry:
    atomic_write(out / name, trained.path(name).read_bytes())
    return entry_of(out / name, out)


def _lineage(loaded: Loaded, ingested: Manifest, trained: Manifest) -> dict[str, Any]:
    facts = {k: ingested.meta[k] for k in ("spec_fp", "input_fp", "fit_fp", "data_fp", "interval")}
    return {
        **facts,
        "pipeline": loaded.pipeline.name,
        "ingest_run_key": ingested.meta["run_key"],
        "train_run_key": trained.meta["run_key"],
        "trained_until_us": trained.meta["trained_until_us"],
        "splits": ingested.meta["splits"],
        "seed": trained.meta["seed"],
        "best_step": trained.meta["best_step"],
        "code": code_version(),
    }


def _installed_scorer() -> Path:
    return Path(__file__).with_name(SCORER)


def _golden(bundle: Bundle, ingested: Manifest) -> FileEntry:
    rows = read_table(ingested.path(SAMPLE))
    probs = bundle.predict(bundle.encode(rows))
    for t, task in enumerate(bundle.layout.task_names):
        rows = rows.append_column(prob_column(task), pa.array(probs[:, t]))
    return write_table(bundle.dir / GOLDEN, rows, bundle.dir)


def _model(directory: Path, layout: Layout, config: ModelConfig) -> MultiTaskModel:
    model = build_model(layout, config, seed=0, table_device=torch.device("meta"))
    tables = {
        name: load_file(directory / "tables" / f"{name}.safetensors")["weight"]
        for name in layout.tables
    }
    load_plain_state(model.embeddings, tables)
    model.dense_part.load_state_dict(load_file(directory / "dense.safetensors"))
    return model.eval()


def load_bundle(directory: Path) -> Bundle:
    """Load a bundle after its hashes verify, and score its golden rows again.

    Raises:
        IntegrityError: if a byte, a fingerprint or a golden score is not what was recorded, or
            the bundle holds a pickle.
    """
    manifest = open_artifact(directory)
    pickles = [e.path for e in manifest.files if Path(e.path).suffix in _REFUSED]
    if pickles:
        raise _broken(directory / pickles[0], "pickles and archives are refused")
    if (directory / SCORER).read_bytes() != _installed_scorer().read_bytes():
        raise _broken(
            directory / SCORER, "differs from the installed scorer; use the release it came with"
        )
    spec = FeatureSpec.model_validate(yaml.safe_load((directory / SPEC).read_text()))
    lineage = json.loads((directory / LINEAGE).read_bytes())
    recorded = json.loads((directory / MODEL).read_bytes())
    fit = FitState.load(directory / FIT)
    for name, found in (("input_fp", input_fp(spec)), ("fit_fp", fit_fp(fit, spec))):
        if found != lineage[name]:
            raise _broken(directory, f"{name} is {found[:12]}, lineage says {lineage[name][:12]}")
    layout = compile_layout(spec, recorded["source"])
    model = _model(directory, layout, ModelConfig.model_validate(recorded["model"]))
    bundle = Bundle(directory, manifest.sha, spec, recorded["source"], layout, fit, model, lineage)
    _check_golden(bundle)
    return bundle


@lru_cache(maxsize=2)
def loaded_bundle(directory: Path, sha: str) -> Bundle:
    """`load_bundle` once per process, for shard workers.

    Raises:
        IntegrityError: as `load_bundle`, or if the bundle is another than `sha`.
    """
    bundle = load_bundle(directory)
    if bundle.sha != sha:
        raise _broken(directory, f"is bundle {bundle.sha[:12]}, not {sha[:12]}")
    return bundle


def _check_golden(bundle: Bundle) -> None:
    rows = read_table(bundle.dir / GOLDEN)
    columns = [prob_column(task) for task in bundle.layout.task_names]
    expected = np.stack([rows[c].to_numpy() for c in columns], axis=1)
    difference = np.abs(bundle.predict(bundle.encode(rows)) - expected).max(initial=0.0)
    if not difference <= TOLERANCE:
        raise _broken(
            bundle.dir,
            f"golden rows score {difference:.2e} off what was recorded, more than {TOLERANCE}",
        )


def _broken(path: Path, message: str) -> IntegrityError:
    fix = "Do not use this bundle; train again or roll back."
    return IntegrityError(Problem(str(path), message, fix))
