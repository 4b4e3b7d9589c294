"""The numbers of all worlds, put together."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.ads.contenders import BASE, CANDIDATES, MODALITIES, WEIGHTS
from benchmarks.ads.experiment import (
    CONSTANT,
    COX,
    HONEST,
    INFERRING,
    LEAKED,
    OBSERVER,
    ORACLE,
    RULES,
    SERVED,
)
from benchmarks.ads.forests import BOOSTING, FOREST
from benchmarks.ads.marginal import NO_CENSORED, NO_ENTRY, RIGHT
from benchmarks.ads.measure import EDGES, SCOPES
from benchmarks.ads.table import Bar, Results

MIN_STOPS = 200
"""Cells with fewer stops are not held to a bar."""
_MARGINAL_ERROR, _ORACLE_GAP, _RATIO_ERROR = 0.005, 0.02, 0.1

World = dict[str, Any]


def summary(worlds: Sequence[World], model: str) -> Results:
    """Tables and bars.

    Args:
        worlds: `Experiment.measured` of each.
        model: name of the candidate that is the model.
    """
    results = Results()
    results.facts = {
        "model": model,
        "creatives": [world["marginal"]["rows"] for world in worlds],
        "test_rows": [world["test_rows"] for world in worlds],
    }
    _marginal(results, worlds)
    candidates = [f"candidate: {c.name}" for c in CANDIDATES]
    trees = [name for name in (FOREST, BOOSTING) if all(name in w["cases"] for w in worlds)]
    observers = (OBSERVER, INFERRING)
    for case in (ORACLE, *observers, BASE, CONSTANT, *RULES, COX, *trees, *candidates):
        _ranking(results, case, worlds)
    for case in (*observers, COX, *trees, *WEIGHTS, *MODALITIES):
        _change(results, case, worlds)
    for one, other in (("two terms", "one term"), ("daily", "one term")):
        for scope in SCOPES:
            gains = [w["terms"][one][scope] - w["terms"][other][scope] for w in worlds]
            results.add(f"{one} - {other}", f"{scope} C", gains)
    for case in (HONEST, LEAKED, SERVED):
        for scope in SCOPES:
            results.add(case, f"{scope} C", [w["cases"][case]["C"][scope][0] for w in worlds])
        results.add(case, "nats per row", [w["cases"][case]["nll"] for w in worlds])
    for case in (CONSTANT, *candidates, *WEIGHTS, HONEST, LEAKED, SERVED):
        _ratios(results, f"O/E, {case}", [_stops(w, case) for w in worlds])
    _ratios(results, "O/E, true hazards", [_stops(w, BASE, "true_expected") for w in worlds])
    _bars(results, worlds)
    return results


def _marginal(results: Results, worlds: Sequence[World]) -> None:
    for way in (RIGHT, NO_ENTRY, NO_CENSORED):
        for metric in ("error", "largest"):
            name = "mean absolute error" if metric == "error" else "largest error"
            results.add(f"marginal: {way}", name, [w["marginal"][metric][way] for w in worlds])
        results.add(f"marginal: {way}", f"{MIN_STOPS}+ stops", [_sure(w, way) for w in worlds])
    found = {"true": [world["marginal"]["true"] for world in worlds]}
    for way in (RIGHT, NO_ENTRY, NO_CENSORED):
        found[way] = [world["marginal"]["hazards"][way] for world in worlds]
    for way, hazards in found.items():
        # A small world may have no creative of the oldest ages.
        for j in range(min(map(len, hazards))):
            values = [in_world[j] for in_world in hazards]
            results.add(f"daily hazard, {way}", _days(j), values)


def _sure(world: World, way: str) -> float:
    """Mean absolute error over the cells with enough stops."""
    parts = world["marginal"]
    error = np.abs(np.subtract(parts["hazards"][way], parts["true"]))
    return float(error[np.array(parts["stops"]) >= MIN_STOPS].mean())


def _ranking(results: Results, case: str, worlds: Sequence[World]) -> None:
    """C of each scope, and C less the oracle's."""
    for metric, name in (("C", "C"), ("minus_oracle", "C - oracle's")):
        for scope in SCOPES:
            pairs = [world["cases"][case][metric][scope] for world in worlds]
            results.add(case, f"{scope} {name}", [v for v, _ in pairs], mean(e for _, e in pairs))


def _change(results: Results, case: str, worlds: Sequence[World]) -> None:
    """Differences to the model, paired by world."""
    pairs = [(world["cases"][case], world["cases"][BASE]) for world in worlds]
    for scope in SCOPES:
        gains = [one["C"][scope][0] - base["C"][scope][0] for one, base in pairs]
        results.add(f"{case} - model", f"{scope} C", gains)
    if "nll" in pairs[0][0]:
        gains = [one["nll"] - base["nll"] for one, base in pairs]
        results.add(f"{case} - model", "nats per row", gains)


def _stops(world: World, case: str, expected: str = "expected") -> np.ndarray:
    """Observed and expected stops of both causes, float64[2, J]."""
    parts = world["cases"][case]
    return np.array([np.sum(parts[name], axis=0) for name in ("observed", expected)])


def _ratios(results: Results, case: str, stops: Sequence[np.ndarray]) -> None:
    """One column for each bucket with enough stops in all worlds together."""
    for j in np.flatnonzero(np.sum(stops, axis=0)[0] >= MIN_STOPS):
        ratios = [float(observed[j] / expected[j]) for observed, expected in stops]
        results.add(case, _days(int(j)), ratios)


def _days(bucket: int) -> str:
    first, after = EDGES[bucket : bucket + 2].tolist()
    return f"days {first}-{after - 1}"


def _bars(results: Results, worlds: Sequence[World]) -> None:
    errors = [world["marginal"]["error"][RIGHT] for world in worlds]
    what = "mean absolute error of marginal hazards"
    results.bars.append(Bar(f"{what}, mean of worlds", mean(errors), _MARGINAL_ERROR))
    results.bars.append(Bar(f"{what}, worst world", max(errors), _MARGINAL_ERROR))
    for case in (BASE, OBSERVER, INFERRING):
        for scope in SCOPES:
            gap = -mean(w["cases"][case]["minus_oracle"][scope][0] for w in worlds)
            results.bars.append(Bar(f"oracle's {scope} C - that of the {case}", gap, _ORACLE_GAP))
    expected = {"model": "expected", "true hazards": "true_expected"}
    for name, column in expected.items():
        stops = np.array([_stops(world, BASE, column) for world in worlds])
        together = f"O/E of the {name}, distance from 1: worst bucket, worlds together"
        results.bars.append(Bar(together, _worst(stops.sum(axis=0)), _RATIO_ERROR))
        worst = max(map(_worst, stops))
        alone = f"O/E of the {name}, distance from 1: worst bucket of any world"
        results.bars.append(Bar(alone, worst, _RATIO_ERROR))


def _worst(stops: np.ndarray) -> float:
    """Largest distance of O/E from 1 where there are enough stops."""
    observed, expected = stops[:, stops[0] >= MIN_STOPS]
    return float(np.abs(observed / expected - 1).max())
