"""Evaluation of the survival label: its holdout rows, predicted and measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, entry_of, make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.landmarks import ROWS
from recsys_mtl.ingest.splits import TEST
from recsys_mtl.metrics.clusters import Clusters, cluster_se
from recsys_mtl.metrics.survival.calibration import ObservedExpected
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.models.heads.hazard import daily_hazards
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.registry.read_outs import encode_creatives, read_outs
from recsys_mtl.spec.layout import GROUP, SPLIT, SURVIVAL_COLUMNS, TIME, survival_column
from recsys_mtl.spec.load import Loaded

PREDICTIONS, SURVIVAL = "predictions.parquet", "survival.json"


def evaluate_survival(loaded: Loaded, bundle: Bundle, rows: Manifest) -> Manifest:
    """Predict the test rows of the landmarks artifact and measure, or return what is published.

    Returns:
        The artifact: `predictions.parquet` (row id, group, time, label, read-outs, `nll` in nats
        per row, `risk`) and `survival.json`: likelihood, C per landmark, observed over expected
        stops per cause and interval.

    Raises:
        DataError: if there is no test row, or a row does not fit the bundle's spec.
    """
    key = run_key("evaluate_survival", rows=rows.sha, bundle=bundle.sha)
    out = stage_dir(loaded.home, loaded.pipeline.name, "evaluate", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        encoded = encode_creatives(loaded, bundle, rows, ROWS, out)
        encoded = encoded.filter(pa.array(encoded[SPLIT].to_numpy() == TEST))
        if not encoded.num_rows:
            fix = "Deliver more days, or lengthen creatives.test."
            raise DataError(Problem("test rows", "there are none to evaluate on", fix, "D041"))
        entries = _write(bundle, encoded, out)
        facts = {"bundle_sha": bundle.sha, "rows": encoded.num_rows, "rows_sha": rows.sha}
        return publish(out, entries, {"run_key": key, **facts})


def _write(bundle: Bundle, encoded: pa.Table, out: Path) -> list[FileEntry]:
    label = bundle.layout.survival
    assert label is not None
    names = [survival_column(label.name, part) for part in SURVIVAL_COLUMNS]
    entry, exit_, event, weight = (encoded[name].to_numpy() for name in names)
    table, z = read_outs(bundle, encoded)
    edges = bundle.model.dense_part.edges
    first, last, cause = (torch.from_numpy(p.astype(np.int64)) for p in (entry, exit_, event))
    days, stops = exposures(first, last, cause, edges, label.num_causes)
    nll = daily_hazard_nll(z.double(), days.double(), stops.double()).numpy()
    left = float(edges[-1]) - entry
    risk = 1 - table[f"{label.name}__days"].to_numpy() / np.maximum(left, 1)
    for name, values in (("entry", entry), ("exit", exit_), ("event", event), ("weight", weight)):
        table = table.append_column(name, pa.array(values))
    table = table.append_column("nll", pa.array(nll)).append_column("risk", pa.array(risk))
    table = table.append_column(GROUP, encoded[GROUP]).append_column(TIME, encoded[TIME])
    expected = ObservedExpected.of(stops.numpy(), days.numpy(), daily_hazards(z).numpy())
    report = _measured(table, label.causes or (label.name,), expected, edges.tolist())
    atomic_write(out / SURVIVAL, json.dumps(report, allow_nan=False, indent=1).encode())
    return [write_table(out / PREDICTIONS, table, out), entry_of(out / SURVIVAL, out)]


def _measured(
    table: pa.Table, causes: tuple[str, ...], expected: ObservedExpected, edges: list[int]
) -> dict[str, Any]:
    groups = Clusters.of(table[GROUP].to_numpy())
    nll, entry = table["nll"].to_numpy(), table["entry"].to_numpy()
    outcomes = Outcomes(table["exit"].to_numpy(), table["event"].to_numpy() > 0)
    risk = table["risk"].to_numpy()
    concordance = {}
    for landmark in np.unique(entry).tolist():
        # Rows of one landmark are at risk from the same age on.
        chosen = entry == landmark
        value = harrell_c(risk[chosen], outcomes.take(chosen), groups.take(chosen))
        if value.value is not None and outcomes.event[chosen].any():
            concordance[str(landmark)] = value.as_json()
    cells = [
        {
            "cause": causes[cell.cause],
            "from_day": edges[cell.bucket],
            "to_day": edges[cell.bucket + 1],
            "observed": cell.observed,
            "expected": cell.expected,
            "ratio": cell.ratio,
            "low": cell.low,
            "high": cell.high,
        }
        for cell in expected.cells()
    ]
    return {
        "rows": table.num_rows,
        "stops": int(outcomes.event.sum()),
        "nll": {"value": float(nll.mean()), "se": cluster_se(nll - nll.mean(), groups)},
        "concordance": concordance,
        "observed_over_expected": cells,
    }
