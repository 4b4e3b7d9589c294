"""Differences to the base model, paired by seed and by row, and the table of all models.

A model is called better than the base when the interval of its paired difference over seeds lies
above 0 and the mean is at least twice the paired test-sampling error; worse likewise; else level.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy.special import stdtrit

from benchmarks.quality.contenders import BASE, SINGLE_TASK
from benchmarks.quality.runs import Run
from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters, cluster_se
from recsys_mtl.registry.predictions import GROUP, ROW_ID, prob_column, read_predictions
from recsys_mtl.spec.layout import label_column, mask_column


def rows_of(runs: dict[str, list[Run]], tuned_lr: dict[str, float]) -> list[dict[str, Any]]:
    """One row per model: means over seeds and the comparison with the base, numbers unrounded."""
    return [_row(model, found, runs, tuned_lr[model]) for model, found in runs.items()]


def _row(model: str, found: list[Run], runs: dict[str, list[Run]], lr: float) -> dict[str, Any]:
    tasks = list(found[0].valid_auc)
    auc_of = {t: [_value(run, t, "auc") for run in found] for t in tasks}
    gains = [_mean_auc(a) - _mean_auc(b) for a, b in zip(found, runs[BASE], strict=True)]
    low, high = _interval(gains)
    sampling_se = mean(_paired_se(a, b, tasks) for a, b in zip(found, runs[BASE], strict=True))
    return {
        "model": model,
        "lr": lr,
        "seeds": [run.setting.seed for run in found],
        "auc": {t: [mean(v), _sd(v)] for t, v in auc_of.items()},
        "gauc": {t: mean(_value(run, t, "gauc") for run in found) for t in tasks},
        "regret": {t: mean(run.regret[t] for run in found) for t in found[0].regret},
        "mean_auc": mean(map(_mean_auc, found)),
        "gain": {"mean": mean(gains), "low": low, "high": high, "sampling_se": sampling_se},
        "verdict": "base" if model == BASE else _verdict(mean(gains), low, high, sampling_se),
        "delta_m_percent": _delta_m(auc_of, runs.get(SINGLE_TASK, [])),
        "dense_params": found[0].dense_params,
        "macs_per_row": found[0].macs_per_row,
        "alarms": [run.alarms for run in found],
    }


def _delta_m(auc_of: dict[str, list[float]], single: list[Run]) -> float | None:
    """Mean relative gain over one model per task; None without those."""
    if not single:
        return None
    base = {t: mean(_value(run, t, "auc") for run in single) for t in auc_of}
    return 100 * mean((mean(values) - base[t]) / base[t] for t, values in auc_of.items())


def _verdict(gain: float, low: float, high: float, sampling_se: float) -> str:
    if abs(gain) < 2 * sampling_se or low <= 0 <= high:
        return "level"
    return "better" if gain > 0 else "worse"


def _value(run: Run, task: str, metric: str) -> float:
    return float(run.test[task][metric]["value"])


def _mean_auc(run: Run) -> float:
    return mean(_value(run, task, "auc") for task in run.test)


def _sd(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan


def _interval(gains: Sequence[float]) -> tuple[float, float]:
    """95 % t-interval of the mean over seeds."""
    if len(gains) < 2:
        return -math.inf, math.inf
    reach = float(stdtrit(len(gains) - 1, 0.975)) * stdev(gains) / math.sqrt(len(gains))
    return mean(gains) - reach, mean(gains) + reach


def _paired_se(one: Run, other: Run, tasks: Sequence[str]) -> float:
    """Error of the difference in mean AUC from having these test users and no others."""
    clusters, total = None, 0.0
    for task in tasks:
        group, psi_one = _influence(Path(one.evaluations[task]), task)
        _, psi_other = _influence(Path(other.evaluations[task]), task)
        clusters = clusters or Clusters.of(group)
        total = total + (psi_one - psi_other) / len(tasks)
    assert clusters is not None
    return cluster_se(np.asarray(total), clusters) or math.nan


def _influence(folder: Path, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Groups int64[n] and influence values float64[n] of a task's AUC; 0 on unobserved rows."""
    columns = [ROW_ID, GROUP, prob_column(task), label_column(task), mask_column(task)]
    table = read_predictions(open_artifact(folder), columns)
    table = table.take(pc.sort_indices(table[ROW_ID]))
    observed = table[mask_column(task)].to_numpy().astype(bool)
    scores = table[prob_column(task)].to_numpy()[observed]
    psi = auc(scores, table[label_column(task)].to_numpy()[observed]).psi
    assert psi is not None
    spread = np.zeros(len(observed))
    spread[observed] = psi * len(observed) / observed.sum()
    return table[GROUP].to_numpy(), spread


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as documentation shows it."""
    tasks = list(rows[0]["auc"])
    head = ["model", *tasks, "mean AUC", "minus mmoe [95 %]", "verdict", "delta_m %"]
    head += ["lr", "dense params", "MACs/row", "alarms per seed"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        gain = row["gain"]
        cells = [row["model"]]
        cells += [f"{value:.4f} ± {sd:.4f}" for value, sd in row["auc"].values()]
        cells += [f"{row['mean_auc']:.4f}"]
        cells += [f"{gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"]
        cells += [row["verdict"], _or_dash(row["delta_m_percent"], "+.2f"), f"{row['lr']:g}"]
        cells += [f"{row['dense_params'] / 1e3:,.0f} k", f"{row['macs_per_row'] / 1e3:,.0f} k"]
        cells += [", ".join(str(len(alarms)) for alarms in row["alarms"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
