"""Making a bundle out of encoded shards and trained weights."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from safetensors.torch import load, save

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
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.ingest.fit import FitState, fit_fp
from recsys_mtl.ingest.job import FIT, SAMPLE
from recsys_mtl.models.model import DensePart
from recsys_mtl.registry.bundle import (
    DENSE,
    FINGERPRINTS,
    GOLDEN,
    GOLDEN_HAZARDS,
    HAZARD_LOGITS,
    LINEAGE,
    MODEL,
    SCORER,
    SPEC,
    Bundle,
    installed_scorer,
    read_bundle,
)
from recsys_mtl.registry.predictions import prob_column
from recsys_mtl.spec.fingerprint import input_fp
from recsys_mtl.spec.load import Loaded


def build_bundle(
    loaded: Loaded, ingested: Manifest, trained: Manifest, creatives: Manifest | None = None
) -> Manifest:
    """Bundle trained weights with everything they need, or return the published bundle.

    Args:
        loaded: the pipeline.
        ingested: its encoded shards.
        trained: weights that were trained on them.
        creatives: encoded ad-level rows, where the pipeline has them beside others.

    Raises:
        IntegrityError: if the weights were trained on other shards, or an input has changed.
        TransientError: if another run is making the same bundle.
    """
    if trained.meta["ingest"]["run_key"] != ingested.meta["run_key"]:
        message = f"was not trained on the shards in {ingested.dir}"
        raise IntegrityError(Problem(str(trained.dir), message, "Rerun `recsys-mtl train`."))
    key = run_key("bundle", ingest=ingested.sha, train=trained.sha)
    fit = FitState.load(ingested.dir / FIT)
    if creatives is not None:
        fit = fit.joined(FitState.load(creatives.dir / FIT))
    out = stage_dir(loaded.home, loaded.pipeline.name, "bundle", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out / "tables")
        entries = _write(loaded, ingested, trained, creatives, fit, out)
        # Through the reader, so that whatever is published can be loaded.
        bundle = read_bundle(out, "")
        if bundle.layout.tasks:
            entries.append(_golden(bundle, ingested))
        if bundle.layout.survival is not None:
            entries.append(_golden_hazards(bundle, creatives or ingested))
        return publish(out, entries, {"run_key": key, "input_fp": input_fp(loaded.spec)})


def _write(
    loaded: Loaded,
    ingested: Manifest,
    trained: Manifest,
    creatives: Manifest | None,
    fit: FitState,
    out: Path,
) -> list[FileEntry]:
    """Write everything but the golden rows."""
    tables = [e for e in trained.files if e.path.startswith("tables/")]
    entries = [_copy(trained, entry, out) for entry in tables]
    entries += fit.save(out / FIT, out)
    plain = loaded.spec.model_dump(mode="json", exclude_none=True)
    model = {
        "sources": list(loaded.sources),
        "model": loaded.pipeline.model.model_dump(mode="json"),
    }
    lineage = _lineage(loaded, ingested, trained, fit)
    if loaded.layout.survival is not None:
        lineage["survival_until_us"] = _newest(creatives or ingested)
    texts = {
        SPEC: yaml.safe_dump(plain, sort_keys=False).encode(),
        MODEL: canonical(model),
        LINEAGE: canonical(lineage),
        SCORER: installed_scorer().read_bytes(),
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


def _lineage(
    loaded: Loaded, ingested: Manifest, trained: Manifest, fit: FitState
) -> dict[str, Any]:
    return {
        **{name: ingested.meta[name] for name in FINGERPRINTS},
        "fit_fp": fit_fp(fit, loaded.spec),
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


def _newest(creatives: Manifest) -> int:
    """Time of the newest ad-level row that was trained or validated on."""
    splits = creatives.meta["splits"]
    return max(int(splits[name]["max_time_us"]) for name in ("train", "valid"))


def _golden(bundle: Bundle, ingested: Manifest) -> FileEntry:
    rows = read_table(ingested.path(SAMPLE))
    probs = bundle.predict(bundle.encode(rows))
    for t, task in enumerate(bundle.layout.task_names):
        rows = rows.append_column(prob_column(task), pa.array(probs[:, t]))
    return write_table(bundle.dir / GOLDEN, rows, bundle.dir)


def _golden_hazards(bundle: Bundle, creatives: Manifest) -> FileEntry:
    rows = read_table(creatives.path(SAMPLE))
    z = bundle.hazards(bundle.encode(rows, bundle.sources[-1])).flatten(1).double().numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1])
    table = rows.append_column(HAZARD_LOGITS, column)
    return write_table(bundle.dir / GOLDEN_HAZARDS, table, bundle.dir)
