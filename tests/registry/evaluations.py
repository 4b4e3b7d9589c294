"""Small evaluation artifacts with planted quality, for tests of the gate."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.artifacts.manifest import publish
from recsys_mtl.registry.holdout import Contender
from recsys_mtl.spec.pipeline import GateConfig, Margins

DAY = 86_400_000_000


@dataclass(frozen=True)
class World:
    """Rows of a holdout: `signal` is what every model sees of the truth."""

    user: np.ndarray
    signal: np.ndarray
    labels: dict
    masks: dict


def world(seed, num_users=1500, mean_rows=8, tasks=("click", "like")):
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(num_users), rng.geometric(1 / mean_rows, num_users))
    n = len(user)
    signal = rng.normal(0, 1, n)
    taste = rng.normal(0, 0.7, num_users)[user]
    labels = {t: rng.random(n) < 1 / (1 + np.exp(1 - signal - taste)) for t in tasks}
    return World(user, signal, labels, {t: np.ones(n, bool) for t in tasks})


def probs(w, seed, noise=0.3, worse=None):
    """A model: the truth through row noise of this size, more of it on the tasks in `worse`."""
    rng = np.random.default_rng(seed)
    scores = {}
    for task in w.labels:
        sd = (worse or {}).get(task, noise)
        scores[task] = 1 / (1 + np.exp(0.9 - 0.9 * (w.signal + sd * rng.normal(size=len(w.user)))))
    return scores


def table(w, scores):
    n = len(w.user)
    columns = {
        "row_id": np.arange(n) * 7 % 1_000_003,
        "group": w.user * 31 - 5,
        "time": np.arange(n) + 100 * DAY,
    }
    for task in w.labels:
        columns[f"p__{task}"] = scores[task]
        columns[f"label__{task}"] = w.labels[task].astype(np.float32)
        columns[f"mask__{task}"] = w.masks[task]
    return pa.table(columns)


def publish_evaluation(directory, rows, name, **meta):
    directory.mkdir(parents=True)
    half = rows.num_rows // 2
    files = [
        write_table(directory / "part-00000-of-00002.parquet", rows.slice(0, half)),
        write_table(directory / "part-00001-of-00002.parquet", rows.slice(half)),
    ]
    tasks = [c.removeprefix("p__") for c in rows.column_names if c.startswith("p__")]
    facts = {
        "tasks": tasks,
        "bundle_sha": f"bundle of {name}",
        "input_fp": "inputs",
        "holdout_fp": "rows",
        "has_group": True,
        "min_time_us": 100 * DAY,
        "split_policy": "time",
    }
    return publish(directory, files, facts | meta)


def contender(directory, rows, name="a", **meta):
    evaluation = publish_evaluation(directory / name, rows, name, **meta)
    return Contender(evaluation, f"bundle of {name}", "inputs", 99 * DAY)


def trained_until(side, time_us):
    return replace(side, trained_until_us=time_us)


def config(auc=0.02, tasks=("click", "like"), **fields):
    margins = {t: Margins(auc=auc) for t in tasks}
    return GateConfig(**{"margins": margins, "min_clusters": 500, "min_positives": 200} | fields)
