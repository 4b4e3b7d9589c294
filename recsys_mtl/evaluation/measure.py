"""From predictions to numbers: every metric of every task, overall and per slice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.calibration import calibration_ratio, reliability
from recsys_mtl.metrics.chain import chain_violations
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate
from recsys_mtl.metrics.gauc import gauc
from recsys_mtl.metrics.logloss import logloss, normalized_entropy
from recsys_mtl.registry.predictions import GROUP, prob_column, slice_column
from recsys_mtl.spec.layout import label_column, mask_column

METRICS: dict[str, Callable[[np.ndarray, np.ndarray, Clusters], Estimate]] = {
    "auc": auc,
    "gauc": gauc,
    "logloss": logloss,
    "ne": normalized_entropy,
    "calibration_ratio": calibration_ratio,
}
Report = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskRows:
    """The m of n rows on which a task's label counts: probs float64[m], labels bool[m]."""

    rows: np.ndarray
    """int64[m], their positions among the n rows."""
    probs: np.ndarray
    labels: np.ndarray
    clusters: Clusters

    def take(self, chosen: np.ndarray) -> "TaskRows":
        """The rows where `chosen`, bool[n], holds."""
        kept = chosen[self.rows]
        return TaskRows(
            self.rows[kept], self.probs[kept], self.labels[kept], self.clusters.take(kept)
        )

    def metrics(self) -> Report:
        """All metrics with their standard errors."""
        return {
            name: metric(self.probs, self.labels, self.clusters).as_json()
            for name, metric in METRICS.items()
        }

    def bins(self) -> list[Report]:
        """Reliability bins."""
        return [asdict(b) for b in reliability(self.probs, self.labels, self.clusters)]


def task_rows(predictions: pa.Table, task: str, groups: Clusters) -> TaskRows:
    """Rows of one task.

    Args:
        predictions: n rows as `registry.predictions` lays them out.
        task: its name.
        groups: clusters of the n rows.
    """
    mask = predictions[mask_column(task)].to_numpy()
    rows = np.flatnonzero(mask)
    probs = predictions[prob_column(task)].to_numpy()[rows]
    labels = predictions[label_column(task)].to_numpy()[rows] > 0
    return TaskRows(rows, probs, labels, groups.take(rows))


def measure(
    predictions: pa.Table, tasks: Sequence[str], slices: Sequence[str], max_slices: int
) -> tuple[Report, Report]:
    """Metrics and calibration curves of an evaluation.

    Args:
        predictions: n rows as `registry.predictions` lays them out.
        tasks: tasks to measure.
        slices: features with a slice column.
        max_slices: values per feature, those with the most rows.

    Returns:
        `metrics.json`: `{rows, masked: {task}, tasks: {task: {metric: estimate}}, slices:
        {feature: {value: {task: {metric: estimate}}}}}` with larger slices first, and
        `calibration.json`: `{task: [bin]}`.
    """
    groups = Clusters.of(predictions[GROUP].to_numpy())
    by_task = {task: task_rows(predictions, task, groups) for task in tasks}
    metrics = {
        "rows": predictions.num_rows,
        "masked": {t: predictions.num_rows - len(r.rows) for t, r in by_task.items()},
        "tasks": {t: r.metrics() for t, r in by_task.items()},
        "slices": {
            feature: {
                value: {t: r.take(chosen).metrics() for t, r in by_task.items()}
                for value, chosen in largest_slices(predictions, feature, max_slices)
            }
            for feature in slices
        },
    }
    return metrics, {t: r.bins() for t, r in by_task.items()}


def above_parent(
    predictions: pa.Table, tasks: Sequence[str], parents: tuple[int, ...]
) -> dict[str, float]:
    """Share of rows on which a task with a parent is predicted above it, which contains it.

    Args:
        predictions: n rows as `registry.predictions` lays them out.
        tasks: all tasks of the model.
        parents: index of each one's parent, -1 without.
    """
    probs = [predictions[prob_column(task)].to_numpy() for task in tasks]
    shares = chain_violations(np.array(probs).T, parents).tolist() if tasks else []
    return {t: s for t, s, p in zip(tasks, shares, parents, strict=True) if p >= 0}


def largest_slices(
    predictions: pa.Table, feature: str, max_slices: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Values with the most rows and bool[n] of their rows; equal sizes in order of value."""
    encoded = pc.dictionary_encode(predictions[slice_column(feature)].combine_chunks())
    codes = encoded.indices.to_numpy()
    values = encoded.dictionary.to_pylist()
    sizes = np.bincount(codes, minlength=len(values)).tolist()
    order = sorted(range(len(values)), key=lambda k: (-sizes[k], values[k]))
    for code in order[:max_slices]:
        yield values[code], codes == code
