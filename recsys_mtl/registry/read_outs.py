"""Survival read-outs of ad-level rows: what is published about every creative."""

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.ingest.assemble import encode_rows
from recsys_mtl.ingest.context import resolve_inputs, source_context
from recsys_mtl.ingest.landmarks import ROWS, of_creatives
from recsys_mtl.models.heads.hazard import (
    cumulative_incidence,
    log_alive,
    restricted_mean,
    stop_probability,
    window_days,
)
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.spec.layout import ROW_ID, survival_column
from recsys_mtl.spec.load import Loaded


def stop_column(name: str, horizon: int, cause: str | None = None) -> str:
    """Column of P(stops within `horizon` days), by any cause or by one."""
    return f"{name}__{horizon}d" if cause is None else f"{name}__{cause}__{horizon}d"


def curve_column(name: str, days: int) -> str:
    """Column of P(still alive `days` days after the row's age)."""
    return f"{name}__alive_{days}d"


CURVE_DAYS = (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90)
"""Days after a row's age at which its survival curve is read out."""


def encode_creatives(
    loaded: Loaded, bundle: Bundle, rows: Manifest, name: str, work: Path
) -> pa.Table:
    """A file of the landmarks artifact as the bundle's inputs.

    Args:
        loaded: the pipeline.
        bundle: a model with ad-level rows.
        rows: the landmarks artifact.
        name: `ROWS`, with labels and split, or `LIVE`, without.
        work: folder for what is needed meanwhile.

    Raises:
        DataError: if a row does not fit the bundle's spec.
    """
    narrowed = of_creatives(loaded, rows, name)
    spec = bundle.spec.model_copy(update={"split": narrowed.spec.split})
    inputs = resolve_inputs(narrowed, None)
    with source_context(narrowed, spec, inputs.files, None, work, name == ROWS) as ctx:
        parts = [encode_rows(shard, ctx, bundle.fit)[1] for shard in inputs.plan.tasks]
    return pa.concat_tables(parts)


def read_outs(bundle: Bundle, encoded: pa.Table) -> tuple[pa.Table, Tensor]:
    """Read-outs of B encoded ad-level rows, in their order, and the hazards behind them.

    Returns:
        Columns `row_id`, `age` (last day lived through), P(stops within H days) for each horizon,
        all causes and each, `<label>__days`: expected days until the grid's end, and the curve;
        and logits float32[B, Q, J].
    """
    label = bundle.layout.survival
    assert label is not None
    z, edges = bundle.hazards(encoded), bundle.model.dense_part.edges
    entry = survival_column(label.name, "entry")
    # A row at risk from day `entry` on has lived through the day before.
    age = torch.from_numpy(encoded.column(entry).to_numpy().copy()) - 1
    daily = log_alive(z.double())
    columns: dict[str, Tensor] = {"age": age}
    for horizon in label.horizons:
        columns[stop_column(label.name, horizon)] = stop_probability(daily, age, horizon, edges)
        incidence = cumulative_incidence(z.double(), window_days(age, horizon, edges))[..., -1]
        for cause, of_cause in zip(label.causes, incidence.unbind(1), strict=False):
            columns[stop_column(label.name, horizon, cause)] = of_cause
    rest = window_days(age, float(edges[-1]), edges)
    columns[f"{label.name}__days"] = restricted_mean(daily, rest)
    for days in CURVE_DAYS:
        alive = (daily * window_days(age, days, edges)).sum(1).exp()
        columns[curve_column(label.name, days)] = alive
    values = {name: pa.array(column.numpy()) for name, column in columns.items()}
    return pa.table({"row_id": encoded.column(ROW_ID), **values}), z
