"""What the gate reads of a survival label: columns of its predictions, and facts of its rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.models.heads.hazard import daily_hazards
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures, marginal_logits
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.spec.layout import TIME, survival_column

Exposures = tuple[Tensor, Tensor]
"""Days at risk float64[n, J] and stops float64[n, Q, J] of n rows on a bundle's grid."""


def exposed(bundle: Bundle, encoded: pa.Table) -> Exposures:
    """Exposures of encoded rows with their labels."""
    label = bundle.layout.survival
    assert label is not None
    names = [survival_column(label.name, part) for part in ("entry", "exit", "event")]
    entry, exit_, event = (
        torch.from_numpy(encoded[name].to_numpy().astype(np.int64)) for name in names
    )
    edges = bundle.model.dense_part.edges
    days, stops = exposures(entry, exit_, event, edges, label.num_causes)
    return days.double(), stops.double()


def with_evidence(table: pa.Table, z: Tensor, rows: Exposures, train: Exposures) -> pa.Table:
    """Predictions with what they are judged by.

    Args:
        table: of n rows.
        z: daily logits float[n, Q, J].
        rows: of the same rows.
        train: of training rows, whose hazards without features are the least to be beaten.

    Returns:
        The table with columns `at_risk` int64 days and `stopped` bool, both as far as the grid
        reaches, `marginal_nll` in nats and `expected` stops on those days, float64.
    """
    days, stops = rows
    marginal = marginal_logits(train[0].sum(0), train[1].sum(0))
    columns = {
        "at_risk": days.sum(1).long(),
        "stopped": stops.flatten(1).any(1),
        "marginal_nll": daily_hazard_nll(marginal.expand_as(stops), days, stops),
        "expected": torch.einsum("nj,nqj->n", days, daily_hazards(z.double())),
    }
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values.numpy()))
    return table


def holdout_facts(bundle: Bundle, landmarks: Manifest, table: pa.Table) -> dict[str, Any]:
    """Meta data of an evaluation of landmark rows; the gate compares it."""
    label = bundle.layout.survival
    assert label is not None
    return {
        "tasks": [label.name],
        "bundle_sha": bundle.sha,
        "input_fp": bundle.lineage["input_fp"],
        "holdout_fp": landmarks.sha,
        "has_group": bundle.spec.sources[bundle.sources[-1]].keys.group is not None,
        "split_policy": "time",
        "min_time_us": int(table[TIME].to_numpy().min()),
        "rows": table.num_rows,
    }
