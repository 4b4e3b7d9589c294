"""Evaluation of the survival label: rows it was not trained on, predicted and measured."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from recsys_mtl.artifacts.commit import (
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.evaluation.survival_evidence import (
    Exposures,
    exposed,
    holdout_facts,
    with_evidence,
)
from recsys_mtl.evaluation.survival_measures import Measured, measure_survival
from recsys_mtl.evaluation.survival_rows import Curves, Lives, SurvivalRows
from recsys_mtl.ingest.landmarks import ROWS
from recsys_mtl.ingest.splits import TEST, TRAIN, VALID
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.models.heads.hazard import daily_hazards, log_alive
from recsys_mtl.objectives.hazard import daily_hazard_nll
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.registry.predictions import SURVIVAL_ROWS
from recsys_mtl.registry.read_outs import encode_creatives, read_outs, stop_column
from recsys_mtl.spec.fingerprint import canonical
from recsys_mtl.spec.layout import GROUP, ROW_ID, SPLIT, SURVIVAL_COLUMNS, TIME, survival_column
from recsys_mtl.spec.load import Loaded

PREDICTIONS, VALIDATION, SURVIVAL = SURVIVAL_ROWS, "validation.parquet", "survival.json"


def evaluate_survival(loaded: Loaded, bundle: Bundle, rows: Manifest) -> Manifest:
    """Predict validation and test rows of the landmarks artifact and measure the latter.

    What is published already is returned.

    Returns:
        The artifact: `predictions.parquet` of the test rows and `validation.parquet` of the
        validation rows (row id, group, time, landmark, label, read-outs, `nll` in nats per row,
        `risk`: share of the remaining grid that is lost from the entry on), by which thresholds
        can be chosen; and `survival.json` as `survival_measures.measure_survival` makes it.

    Raises:
        DataError: if there is no test row, or none inside the bundle's grid, or a row does not fit
            its spec.
    """
    evaluation, label = loaded.pipeline.evaluation, bundle.layout.survival
    assert label is not None
    settings = {"slices": evaluation.slices, "max_slices": evaluation.max_slices}
    parts = {"rows": rows.sha, "bundle": bundle.sha, "settings": canonical(settings).decode()}
    key = run_key("evaluate_survival", **parts)
    out = stage_dir(loaded.home, loaded.pipeline.name, "evaluate", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        encoded = encode_creatives(loaded, bundle, rows, ROWS, out)
        encoded = _with_raw(encoded, read_table(rows.path(ROWS)))
        split = encoded[SPLIT].to_numpy()
        train, valid, test = (encoded.filter(pa.array(split == k)) for k in (TRAIN, VALID, TEST))
        if not test.num_rows:
            fix = "Deliver more days, or lengthen creatives.test."
            raise DataError(Problem("test rows", "there are none to evaluate on", fix, "D041"))
        at_risk = exposed(bundle, train)
        predicted = _predict(bundle, test, at_risk)
        table = predicted.table
        report = _measured(loaded, bundle, predicted, _lives(train, label.name))
        atomic_write(out / SURVIVAL, json.dumps(report, allow_nan=False, indent=1).encode())
        known = _predict(bundle, valid, at_risk).table if valid.num_rows else table.slice(0, 0)
        entries = [
            write_table(out / PREDICTIONS, table, out),
            write_table(out / VALIDATION, known, out),
            entry_of(out / SURVIVAL, out),
        ]
        return publish(out, entries, {"run_key": key, **holdout_facts(bundle, rows, table)})


@dataclass(frozen=True, slots=True, eq=False)
class _Predicted:
    """n encoded rows with what the bundle says of them."""

    encoded: pa.Table
    table: pa.Table
    """Read-outs, label, likelihood, risk and keys."""
    z: Tensor
    """Daily logits float64[n, Q, J]."""
    at_risk: Exposures


def _with_raw(encoded: pa.Table, raw: pa.Table) -> pa.Table:
    """Encoded rows with the raw columns of the same rows beside them, named `raw__<column>`."""
    at = pc.index_in(encoded[ROW_ID], value_set=raw["row_id"].combine_chunks())
    found = raw.take(at)
    for name in raw.column_names:
        encoded = encoded.append_column(_raw(name), found[name])
    return encoded


def _raw(name: str) -> str:
    return f"raw__{name}"


def _predict(bundle: Bundle, encoded: pa.Table, train: Exposures) -> _Predicted:
    label = bundle.layout.survival
    assert label is not None
    names = [survival_column(label.name, part) for part in SURVIVAL_COLUMNS]
    entry, exit_, event, weight = (encoded[name].to_numpy() for name in names)
    table, z = read_outs(bundle, encoded)
    z, at_risk = z.double(), exposed(bundle, encoded)
    nll = daily_hazard_nll(z, *at_risk).numpy()
    left = float(bundle.model.dense_part.edges[-1]) - entry
    risk = 1 - table[f"{label.name}__days"].to_numpy() / np.maximum(left, 1)
    columns = {"entry": entry, "exit": exit_, "event": event, "weight": weight}
    for name, values in {**columns, "nll": nll, "risk": risk}.items():
        table = table.append_column(name, pa.array(values))
    table = table.append_column(GROUP, encoded[GROUP]).append_column(TIME, encoded[TIME])
    table = table.append_column("landmark", encoded[_raw("landmark")])
    return _Predicted(encoded, with_evidence(table, z, at_risk, train), z, at_risk)


def _measured(
    loaded: Loaded, bundle: Bundle, predicted: _Predicted, train: Lives
) -> dict[str, Any]:
    label, creatives = bundle.layout.survival, loaded.pipeline.creatives
    assert label is not None
    assert creatives is not None
    encoded, table = predicted.encoded, predicted.table
    at_risk, stops = (part.numpy() for part in predicted.at_risk)
    edges = bundle.model.dense_part.edges.numpy()
    rows = SurvivalRows(
        _lives(encoded, label.name),
        Curves.of(log_alive(predicted.z).numpy(), edges),
        Clusters.of(table[GROUP].to_numpy()),
        table["nll"].to_numpy(),
        table["expected"].to_numpy(),
        pc.dictionary_encode(encoded[_raw("creative")].combine_chunks()).indices.to_numpy(),
        encoded[_raw("day")].cast(pa.int32()).to_numpy().astype(np.int64),
        encoded[_raw("planned_end")].fill_null(0).to_numpy().astype(np.int64),
        encoded[_raw("spend")].to_numpy(),
    )
    names = {days: [stop_column(label.name, days)] for days in label.horizons}
    for days, columns in names.items():
        columns += [stop_column(label.name, days, cause) for cause in label.causes]
    sliced = loaded.pipeline.evaluation.slices
    return measure_survival(
        Measured(
            label=label,
            edges=edges,
            boundary=creatives.wear_out_age,
            rows=rows,
            train=train,
            stops=stops > 0,
            expected=at_risk[:, None] * daily_hazards(predicted.z).numpy(),
            within={
                days: np.stack([table[c].to_numpy() for c in columns], axis=1)
                for days, columns in names.items()
            },
            slices={
                name: encoded[_raw(name)].cast(pa.string())
                for name in sliced
                if _raw(name) in encoded.column_names
            },
            max_slices=loaded.pipeline.evaluation.max_slices,
        )
    )


def _lives(encoded: pa.Table, label: str) -> Lives:
    """Labels of encoded rows with raw columns."""
    names = [survival_column(label, part) for part in ("entry", "exit", "event")]
    columns = [encoded[name].to_numpy() for name in (_raw("landmark"), *names)]
    return Lives(*(column.astype(np.int64) for column in columns))
