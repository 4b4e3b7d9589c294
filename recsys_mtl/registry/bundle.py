"""The bundle: everything a model needs to score, verified before a weight is used.

Files: `feature_spec.yaml` (resolved), `model.json`, `fit/`, `dense.safetensors`,
`tables/<table>.safetensors`, `golden.parquet` (assembled rows with their scores) where there are
tasks and `golden_hazards.parquet` where there is a survival label, `lineage.json`, `scorer.py`, and
MANIFEST.json last. No pickle, and nothing else.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from recsys_mtl.artifacts.commit import (
    read_table,
)
from recsys_mtl.artifacts.manifest import MANIFEST, Manifest, open_artifact
from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.state import load_plain_state
from recsys_mtl.errors import DataError, IntegrityError, Problem
from recsys_mtl.ingest.fit import FitState, fit_fp
from recsys_mtl.ingest.job import FIT
from recsys_mtl.ingest.transform import encode
from recsys_mtl.models.interface import Probe
from recsys_mtl.models.model import MultiTaskModel, build_model
from recsys_mtl.registry.predictions import prob_column
from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.fingerprint import input_fp, spec_fp
from recsys_mtl.spec.layout import Layout, compile_layout
from recsys_mtl.spec.model_config import ModelConfig

GOLDEN_HAZARDS = "golden_hazards.parquet"
HAZARD_LOGITS = "hazard_logits"
GOLDEN, LINEAGE, MODEL, SPEC, SCORER, DENSE = (
    "golden.parquet",
    "lineage.json",
    "model.json",
    "feature_spec.yaml",
    "scorer.py",
    "dense.safetensors",
)
TOLERANCE = 1e-6
"""Largest difference of a golden row's probability after a reload."""
_LOGIT_TOLERANCE = 1e-4
_PREDICT_ROWS = 8192
_FILES = re.compile(
    r"(golden(_hazards)?\.parquet|lineage\.json|model\.json|feature_spec\.yaml|scorer\.py"
    r"|dense\.safetensors|fit/fit\.json|fit/vocab/[a-z0-9_]+\.parquet|tables/[a-z0-9_]+\.safetensors)"
)
_UNREADABLE = (KeyError, RuntimeError, SafetensorError, TypeError, ValueError, yaml.YAMLError)
FINGERPRINTS = ("spec_fp", "input_fp", "fit_fp", "data_fp")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded model with the transform that its rows go through."""

    dir: Path
    sha: str
    """sha256 of MANIFEST.json: the model's identity."""
    spec: FeatureSpec
    sources: tuple[str, ...]
    """The pipeline's own, then that of ad-level rows if it is another."""
    layout: Layout
    """Of all sources."""
    fit: FitState
    model: MultiTaskModel
    lineage: Mapping[str, Any]

    @property
    def source(self) -> str:
        """The pipeline's own source."""
        return self.sources[0]

    @property
    def golden(self) -> Path:
        """Assembled rows of the pipeline's own source, with what the model gave for them."""
        return self.dir / (GOLDEN if self.layout.tasks else GOLDEN_HAZARDS)

    def encode(self, assembled: pa.Table, source: str | None = None) -> pa.Table:
        """Assembled rows of a source, the first when absent, as model inputs without labels."""
        return encode(assembled, self.spec, source or self.source, self.fit, with_labels=False)

    def hazards(self, encoded: pa.Table) -> Tensor:
        """Daily hazard logits float32[B, Q, J] of B encoded ad-level rows.

        Raises:
            IntegrityError: if a logit is not finite.
        """
        own = compile_layout(self.spec, self.sources[-1])
        parts = []
        with torch.inference_mode(), _one_thread():
            for start in range(0, encoded.num_rows, _PREDICT_ROWS):
                batch = to_batch(encoded.slice(start, _PREDICT_ROWS), self.layout, own)
                part = self.model.outputs(batch).hazard
                assert part is not None
                parts.append(part)
            head = self.model.dense_part.hazard
            assert head is not None
            z = head.daily(torch.cat(parts))
        if not torch.isfinite(z).all():
            message = "hazards are not finite"
            raise IntegrityError(Problem(str(self.dir), message, "Roll back, then retrain."))
        return z

    def predict(self, encoded: pa.Table, probe: Probe | None = None) -> np.ndarray:
        """End-to-end probabilities of B encoded rows, float64[B, T], tasks as in the layout.

        Args:
            encoded: rows as `encode` makes them, with or without labels.
            probe: sees, and may change, what the tower's gates mix.

        Raises:
            IntegrityError: if a probability is not finite.
        """
        own = compile_layout(self.spec, self.source)
        parts = [np.empty((0, len(self.layout.tasks)))]
        with torch.inference_mode(), _one_thread():
            for start in range(0, encoded.num_rows, _PREDICT_ROWS):
                batch = to_batch(encoded.slice(start, _PREDICT_ROWS), self.layout, own)
                log_p, _ = self.model.predict_log_probs(batch, probe)
                parts.append(np.exp(log_p.double().numpy()))
        probs = np.concatenate(parts)
        bad = ~np.isfinite(probs)
        if bad.any():
            task = self.layout.task_names[int(bad.any(0).argmax())]
            message = f"{int(bad.sum()):,} scores are not finite, the first of task {task!r}"
            raise IntegrityError(Problem(str(self.dir), message, "Roll back, then retrain."))
        return probs


@contextmanager
def _one_thread() -> Iterator[None]:
    """Predict with one thread; shards are what runs in parallel.

    Kernels differ in the last bit between 1 and 2 threads (measured on 7 rows), and files must
    not depend on the number of workers or cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def installed_scorer() -> Path:
    """The scorer of this package, which a bundle carries byte for byte."""
    return Path(__file__).with_name(SCORER)


def load_bundle(directory: Path) -> Bundle:
    """Load a bundle after its hashes verify, and score its golden rows again.

    Raises:
        IntegrityError: if a byte, a fingerprint, a weight or a golden score is not what was
            recorded, or the directory holds a link, a pickle or anything else that is no part
            of a bundle.
    """
    manifest = open_artifact(directory)
    _check_closed(manifest)
    if (directory / SCORER).read_bytes() != installed_scorer().read_bytes():
        raise _broken(
            directory / SCORER, "differs from the installed scorer; use the release it came with"
        )
    bundle = read_bundle(directory, manifest.sha)
    if bundle.layout.tasks:
        _check_golden(bundle)
    if bundle.layout.survival is not None:
        _check_golden_hazards(bundle)
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


def _check_closed(manifest: Manifest) -> None:
    """Refuse what a bundle does not consist of, hidden files included.

    Other artifacts may keep working state beside their files; a bundle travels, and is complete.
    """
    listed = {entry.path for entry in manifest.files}
    for path in sorted(manifest.dir.rglob("*")):
        name = path.relative_to(manifest.dir).as_posix()
        if path.is_symlink():
            raise _broken(path, "is a link; a bundle holds plain files")
        if path.is_dir() or name == MANIFEST:
            continue
        if name not in listed:
            raise _broken(path, f"is not listed in {MANIFEST}", "D023")
        if not _FILES.fullmatch(name):
            raise _broken(path, "is no part of a bundle; pickles and archives are refused")


def read_bundle(directory: Path, sha: str) -> Bundle:
    """Read all files but the golden rows, and compare fingerprints with the lineage."""
    with _readable(directory / SPEC) as path:
        spec = FeatureSpec.model_validate(yaml.safe_load(path.read_text()))
    with _readable(directory / LINEAGE) as path:
        lineage: dict[str, Any] = json.loads(path.read_bytes())
        recorded = [lineage[name] for name in FINGERPRINTS]
    with _readable(directory / MODEL) as path:
        described = json.loads(path.read_bytes())
        sources = tuple(described["sources"])
        layout = compile_layout(spec, *sources)
        config = ModelConfig.model_validate(described["model"])
    with _readable(directory / FIT):
        fit = FitState.load(directory / FIT)
    found = (spec_fp(spec), input_fp(spec), fit_fp(fit, spec))
    for name, ours, theirs in zip(FINGERPRINTS, found, recorded, strict=False):
        if ours != theirs:
            raise _broken(directory, f"{name} is {ours[:12]}, {LINEAGE} says {theirs[:12]}")
    model = _model(directory, layout, config)
    return Bundle(directory, sha, spec, sources, layout, fit, model, lineage)


def _model(directory: Path, layout: Layout, config: ModelConfig) -> MultiTaskModel:
    model = build_model(layout, config, seed=0, table_device=torch.device("meta"))
    tables = {}
    for name in layout.tables:
        with _readable(directory / "tables" / f"{name}.safetensors") as path:
            tables[name] = load_file(path)["weight"]
    load_plain_state(model.embeddings, tables)
    model.dense_part.fold()
    with _readable(directory / DENSE) as path:
        dense = load_file(path)
        model.dense_part.load_state_dict(dense)
    for name, tensor in {**tables, **dense}.items():
        if not torch.isfinite(tensor).all():
            raise _broken(directory, f"weights {name!r} are not finite")
    return model.eval()


def _check_golden(bundle: Bundle) -> None:
    rows = read_table(bundle.dir / GOLDEN)
    if rows.num_rows == 0:
        raise _broken(bundle.dir / GOLDEN, "holds no rows; nothing can be compared")
    with _readable(bundle.dir / GOLDEN):
        columns = [prob_column(task) for task in bundle.layout.task_names]
        expected = np.stack([rows[column].to_numpy() for column in columns], axis=1)
    try:
        found = bundle.predict(bundle.encode(rows))
    except DataError as error:
        raise _broken(bundle.dir / GOLDEN, f"does not fit the spec: {error}") from error
    difference = np.abs(found - expected).max()
    if not difference <= TOLERANCE:
        raise _broken(
            bundle.dir,
            f"golden rows score {difference:.2e} off what was recorded, more than {TOLERANCE}",
        )


def _check_golden_hazards(bundle: Bundle) -> None:
    with _readable(bundle.dir / GOLDEN_HAZARDS) as path:
        rows = read_table(path)
        expected = rows[HAZARD_LOGITS].combine_chunks().flatten().to_numpy()
        found = bundle.hazards(bundle.encode(rows, bundle.sources[-1])).flatten().double().numpy()
        difference = np.abs(found - expected).max()
    if not difference <= _LOGIT_TOLERANCE:
        text = f"golden hazards are {difference:.2e} off what was recorded"
        raise _broken(bundle.dir, text)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Turn what a parser says about a file into the file's IntegrityError."""
    try:
        yield path
    except _UNREADABLE as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise _broken(path, f"is not what a bundle holds there: {text}") from error


def _broken(path: Path, message: str, code: str = "") -> IntegrityError:
    fix = "Do not use this bundle; train again or roll back."
    return IntegrityError(Problem(str(path), message, fix, code))
