"""`survival.json`: every figure of a survival label on rows that it was not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.evaluation.measure import largest_slices
from recsys_mtl.evaluation.survival_concordance import (
    TOP_SHARE,
    Censoring,
    by_landmark,
    concordances,
    top_sales,
)
from recsys_mtl.evaluation.survival_rows import Lives, SurvivalRows
from recsys_mtl.evaluation.survival_scores import StopsWithin, brier_scores, d_calibrated
from recsys_mtl.metrics.survival.calibration import ObservedExpected
from recsys_mtl.metrics.survival.overall import mean_nll, stop_ratio
from recsys_mtl.registry.predictions import MISSING, slice_column
from recsys_mtl.spec.feature_spec import SurvivalLabel

ALL, TOP_SALES = "all", "top_sales"
Report = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """n evaluated rows and what they are measured with."""

    label: SurvivalLabel
    edges: np.ndarray
    """int64[J + 1], of the bundle's grid."""
    boundary: int
    """First age of wear-out."""
    rows: SurvivalRows
    train: Lives
    """For the censoring of Uno's C and the marginal curve."""
    stops: np.ndarray
    """bool[n, Q, J], by cause and interval of the grid."""
    expected: np.ndarray
    """float64[n, Q, J], days at risk times predicted daily hazard."""
    within: Mapping[int, np.ndarray]
    """H to float64[n, 1 + Q], P(stops within H days), by any cause and by each."""
    slices: Mapping[str, pa.ChunkedArray]
    """Feature to the strings of n rows."""
    max_slices: int


def measure_survival(measured: Measured) -> Report:
    """All figures of `survival.json`.

    Returns:
        label, rows, stops, boundary (first age of wear-out); `nll` with its error;
        `concordance`: landmark to Harrell's C; `observed_over_expected` stops by cause and
        interval; `subsets`: all and top_sales, each with rows, stops, expected stops, nll,
        observed over expected, and `c`: range to {harrell, uno, antolini}; `uno_before`: landmark
        to the age before which stops are used; `brier`, `d_calibration`, and `calibration` by
        horizon, of all rows and by slice. Where the bundle's grid ends before a row's entry,
        nothing is predicted: `beyond_grid` rows are in the likelihood alone.

    Raises:
        DataError: if all rows are.
    """
    rows, inside = measured.rows, measured.rows.lives.entry < measured.edges[-1]
    report: Report = {
        "label": measured.label.name,
        "rows": len(rows),
        "stops": int((rows.lives.cause > 0).sum()),
        "boundary": measured.boundary,
        "beyond_grid": int((~inside).sum()),
        "nll": _nll(rows),
        "observed_over_expected": _cells(measured),
    }
    rows = rows.take(inside)
    if not len(rows):
        text = f"all are older than day {measured.edges[-1]}, where the model's grid ends"
        raise DataError(Problem("test rows", text, "Lengthen model.hazard.edges.", "D041"))
    train = measured.train.take(measured.train.entry < measured.edges[-1])
    censoring = Censoring.of(train)
    subsets = {ALL: np.ones(len(rows), bool), TOP_SALES: top_sales(rows)}
    return {
        **report,
        "concordance": by_landmark(rows),
        "subsets": {
            name: _subset(rows.take(chosen), censoring, measured.boundary)
            for name, chosen in subsets.items()
        },
        "top_share": TOP_SHARE,
        "uno_before": censoring.before(),
        "brier": brier_scores(rows, train, measured.label.horizons),
        "d_calibration": d_calibrated(rows),
        "calibration": _calibration(measured, rows, inside),
    }


def headline(report: Report) -> dict[str, dict[str, float | None]]:
    """Metric to {value}, those by which runs are compared.

    Args:
        report: `survival.json`.
    """
    found: dict[str, float | None] = {"nll": report["nll"]["value"]}
    for subset, figures in report["subsets"].items():
        end = "" if subset == ALL else f"_{subset}"
        found[f"observed_over_expected{end}"] = figures["observed_over_expected"]["value"]
        for span, kinds in figures["c"].items():
            for kind, value in kinds.items():
                found[f"{_NAMES[kind]}_{span}{end}"] = value["value"]
    scores = {f"{days}d": v for days, v in report["brier"]["horizons"].items()}
    scores["integrated"] = report["brier"]["integrated"]
    for name, values in scores.items():
        found[f"brier_{name}"] = values["model"]["value"]
        found[f"brier_{name}_kaplan_meier"] = values["kaplan_meier"]["value"]
    found["d_calibration_deviation"] = report["d_calibration"]["largest_deviation"]
    return {name: {"value": value} for name, value in found.items()}


_NAMES = {"harrell": "c", "uno": "uno_c", "antolini": "antolini_c"}


def _nll(rows: SurvivalRows) -> Report:
    return mean_nll(rows.nll, rows.lives.cause > 0, rows.clusters).as_json()


def _cells(measured: Measured) -> list[Report]:
    """With exact intervals of independent stops, or those of clusters where they are wider."""
    causes = measured.label.causes or (measured.label.name,)
    edges, clusters = measured.edges.tolist(), measured.rows.clusters
    stops, expected = measured.stops, measured.expected
    cells = []
    for cell in ObservedExpected(stops.sum(axis=0), expected.sum(axis=0)).cells():
        at = np.s_[:, cell.cause, cell.bucket]
        low, high = cell.low, cell.high
        # A creative that stops is counted in its rows of all earlier landmarks.
        bounds = stop_ratio(stops[at], expected[at], clusters).interval()
        if bounds and low is not None and high is not None:
            low, high = min(low, max(bounds[0], 0.0)), max(high, bounds[1])
        cells.append(
            {
                "cause": causes[cell.cause],
                "from_day": edges[cell.bucket],
                "to_day": edges[cell.bucket + 1],
                "observed": cell.observed,
                "expected": cell.expected,
                "ratio": cell.ratio,
                "low": low,
                "high": high,
            }
        )
    return cells


def _subset(rows: SurvivalRows, censoring: Censoring, boundary: int) -> Report:
    stopped = rows.outcomes().event
    return {
        "rows": len(rows),
        "stops": int(stopped.sum()),
        "expected": float(rows.expected.sum()),
        "nll": _nll(rows),
        "observed_over_expected": stop_ratio(stopped, rows.expected, rows.clusters).as_json(),
        "c": concordances(rows, censoring, boundary),
    }


def _calibration(measured: Measured, rows: SurvivalRows, inside: np.ndarray) -> Report:
    predicted = {days: values[inside] for days, values in measured.within.items()}
    causes, end = measured.label.causes, rows.curves.end
    within = StopsWithin(rows.lives, rows.clusters, predicted, causes, end)
    keep = pa.array(inside)
    sliced = {
        slice_column(name): values.filter(keep).fill_null(MISSING)
        for name, values in measured.slices.items()
    }
    return {
        ALL: within.calibration(),
        "slices": {
            name: {
                value: within.take(chosen).calibration()
                for value, chosen in largest_slices(pa.table(sliced), name, measured.max_slices)
            }
            for name in measured.slices
        },
    }
