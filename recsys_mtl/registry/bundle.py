"""The bundle: everything a model needs to score, verified before a weight is used.

Files: `feature_spec.yaml` (resolved), `model.json`, `fit/`, `dense.safetensors`,
`tables/<table>.safetensors`, `golden.parquet` (assembled rows with their scores), `lineage.json`,
`scorer.py`, and MANIFEST.json last. No pickle, and nothing else.
"""

import hashlib
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
from safetensors.torch import load, load_file, save

from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import MANIFEST, Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import code_version, run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.state import load_plain_state
from recsys_mtl.errors import DataError, IntegrityError, Problem
from recsys_mtl.ingest.fit import FitState, fit_fp
from recsys_mtl.ingest.job import FIT, SAMPLE
from recsys_mtl.ingest.transform import encode
from recsys_mtl.models.interface import Probe
from recsys_mtl.models.model import DensePart, MultiTaskModel, build_model
from recsys_mtl.registry.predictions import prob_column
from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.fingerprint import input_fp, spec_fp
from recsys_mtl.spec.layout import Layout, compile_layout
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.model_config import ModelConfig

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
_PREDICT_ROWS = 8192
_FILES = re.compile(
    r"(golden\.parquet|lineage\.json|model\.json|feature_spec\.yaml|scorer\.py|dense\.safetensors"
    r"|fit/fit\.json|fit/vocab/[a-z0-9_]+\.parquet|tables/[a-z0-9_]+\.safetensors)"
)
_UNREADABLE = (KeyError, RuntimeError, SafetensorError, TypeError, ValueError, yaml.YAMLError)
_FINGERPRINTS = ("spec_fp", "input_fp", "fit_fp", "data_fp")


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

    def predict(self, encoded: pa.Table, probe: Probe | None = None) -> np.ndarray:
        """End-to-end probabilities of B encoded rows, float64[B, T], tasks as in the layout.

        Args:
            encoded: rows as `encode` makes them, with or without labels.
            probe: sees, and may change, what the tower's gates mix.

        Raises:
            IntegrityError: if a probability is not finite.
        """
        parts = [np.empty((0, len(self.layout.tasks)))]
        with torch.inference_mode(), _one_thread():
            for start in range(0, encoded.num_rows, _PREDICT_ROWS):
                batch = to_batch(encoded.slice(start, _PREDICT_ROWS), self.layout)
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


def build_bundle(loaded: Loaded, ingested: Manifest, trained: Manifest) -> Manifest:
    """Bundle trained weights with everything they need, or return the published bundle.

    Raises:
        IntegrityError: if the weights were trained on other shards, or an input has changed.
        TransientError: if another run is making the same bundle.
    """
    if trained.meta["ingest"]["run_key"] != ingested.meta["run_key"]:
        message = f"was not trained on the shards in {ingested.dir}"
        raise IntegrityError(Problem(str(trained.dir), message, "Rerun `recsys-mtl train`."))
    key = run_key("bundle", ingest=ingested.sha, train=trained.sha)
    out = stage_dir(loaded.home, loaded.pipeline.name, "bundle", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out / "tables")
        entries = _write(loaded, ingested, trained, out)
        # Through the reader, so that whatever is published can be loaded.
        entries.append(_golden(_read(out, ""), ingested))
        return publish(out, entries, {"run_key": key, "input_fp": input_fp(loaded.spec)})


def _write(loaded: Loaded, ingested: Manifest, trained: Manifest, out: Path) -> list[FileEntry]:
    """Write everything but the golden rows."""
    tables = [e for e in trained.files if e.path.startswith("tables/")]
    entries = [_copy(trained, entry, out) for entry in tables]
    entries += FitState.load(ingested.dir / FIT).save(out / FIT, out)
    plain = loaded.spec.model_dump(mode="json", exclude_none=True)
    model = {
        "source": loaded.pipeline.data.source,
        "model": loaded.pipeline.model.model_dump(mode="json"),
    }
    texts = {
        SPEC: yaml.safe_dump(plain, sort_keys=False).encode(),
        MODEL: canonical(model),
        LINEAGE: canonical(_lineage(loaded, ingested, trained)),
        SCORER: _installed_scorer().read_bytes(),
        DENSE: _folded(loaded, trained),
    }
    for name, data in texts.items():
        atomic_write(out / name, data)
        entries.append(entry_of(out / name, out))
    return entries


def _copy(trained: Manifest, entry: FileEntry, out: Path) -> FileEntry:
    atomic_write(out / entry.path, _verified(trained, entry))
    return entry


def _verified(trained: Manifest, entry: FileEntry) -> bytes:
    data = trained.path(entry.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        fix = "Move its directory away and rerun `recsys-mtl train`."
        raise IntegrityError(
            Problem(str(trained.path(entry.path)), "changed after it was written", fix, "D022")
        )
    return data


def _folded(loaded: Loaded, trained: Manifest) -> bytes:
    """Dense weights for scoring: what does not depend on the rows is a constant."""
    (entry,) = (e for e in trained.files if e.path == DENSE)
    dense_part = DensePart(loaded.layout, loaded.pipeline.model)
    dense_part.load_state_dict(load(_verified(trained, entry)))
    dense_part.fold()
    state = {name: tensor.contiguous() for name, tensor in dense_part.state_dict().items()}
    data: bytes = save(state)
    return data


def _lineage(loaded: Loaded, ingested: Manifest, trained: Manifest) -> dict[str, Any]:
    return {
        **{name: ingested.meta[name] for name in _FINGERPRINTS},
        "pipeline": loaded.pipeline.name,
        "interval": ingested.meta["interval"],
        "splits": ingested.meta["splits"],
        "ingest_run_key": ingested.meta["run_key"],
        "train_run_key": trained.meta["run_key"],
        "trained_until_us": trained.meta["trained_until_us"],
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


def load_bundle(directory: Path) -> Bundle:
    """Load a bundle after its hashes verify, and score its golden rows again.

    Raises:
        IntegrityError: if a byte, a fingerprint, a weight or a golden score is not what was
            recorded, or the directory holds a link, a pickle or anything else that is no part
            of a bundle.
    """
    manifest = open_artifact(directory)
    _check_closed(manifest)
    if (directory / SCORER).read_bytes() != _installed_scorer().read_bytes():
        raise _broken(
            directory / SCORER, "differs from the installed scorer; use the release it came with"
        )
    bundle = _read(directory, manifest.sha)
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


def _read(directory: Path, sha: str) -> Bundle:
    """Read all files but the golden rows, and compare fingerprints with the lineage."""
    with _readable(directory / SPEC) as path:
        spec = FeatureSpec.model_validate(yaml.safe_load(path.read_text()))
    with _readable(directory / LINEAGE) as path:
        lineage: dict[str, Any] = json.loads(path.read_bytes())
        recorded = [lineage[name] for name in _FINGERPRINTS]
    with _readable(directory / MODEL) as path:
        described = json.loads(path.read_bytes())
        layout = compile_layout(spec, described["source"])
        config = ModelConfig.model_validate(described["model"])
    with _readable(directory / FIT):
        fit = FitState.load(directory / FIT)
    found = (spec_fp(spec), input_fp(spec), fit_fp(fit, spec))
    for name, ours, theirs in zip(_FINGERPRINTS, found, recorded, strict=False):
        if ours != theirs:
            raise _broken(directory, f"{name} is {ours[:12]}, {LINEAGE} says {theirs[:12]}")
    model = _model(directory, layout, config)
    return Bundle(directory, sha, spec, described["source"], layout, fit, model, lineage)


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
