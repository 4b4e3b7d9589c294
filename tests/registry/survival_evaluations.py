"""Small evaluation artifacts of a survival label with planted hazards, for tests of the gate."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.artifacts.manifest import publish
from recsys_mtl.registry.holdout import Contender
from recsys_mtl.spec.pipeline import GateConfig, Margins

from . import evaluations
from .evaluations import DAY

HORIZON = 30


@dataclass(frozen=True)
class Lives:
    """Rows of a survival holdout, one true daily hazard each: `score` is its logit."""

    campaign: np.ndarray
    score: np.ndarray
    at_risk: np.ndarray
    stopped: np.ndarray


def lives(seed, num_campaigns=300, mean_rows=8):
    rng = np.random.default_rng(seed)
    campaign = np.repeat(np.arange(num_campaigns), rng.geometric(1 / mean_rows, num_campaigns))
    n = len(campaign)
    score = -2.5 + rng.normal(0, 0.8, n) + rng.normal(0, 0.5, num_campaigns)[campaign]
    life = rng.geometric(1 / (1 + np.exp(-score)))
    return Lives(campaign, score, np.minimum(life, HORIZON - 1), life < HORIZON)


def hazards(w, seed, noise=0.3, shift=0.0):
    """A model: the true logits through noise of this size, and off by `shift`."""
    return 1 / (
        1 + np.exp(-w.score - shift - np.random.default_rng(seed).normal(0, noise, len(w.score)))
    )


def nll(w, hazard):
    return -np.where(w.stopped, np.log(hazard), np.log1p(-hazard)) - (w.at_risk - 1) * np.log1p(
        -hazard
    )


def marginal_hazard(w):
    return np.full(len(w.score), w.stopped.sum() / w.at_risk.sum())


def table(w, hazard):
    n = len(w.score)
    return pa.table(
        {
            "row_id": [f"{i * 7 % 1_000_003}@1" for i in range(n)],
            "key__group": w.campaign * 31 - 5,
            "key__time": np.arange(n) + 100 * DAY,
            "entry": np.ones(n, np.int32),
            "exit": w.at_risk.astype(np.int32),
            "event": w.stopped.astype(np.int8),
            "at_risk": w.at_risk,
            "stopped": w.stopped,
            "nll": nll(w, hazard),
            "marginal_nll": nll(w, marginal_hazard(w)),
            "expected": w.at_risk * hazard,
        }
    )


def on_survival(directory, rows, name, **meta):
    """The evaluation of a survival label, as of the bundle `name`."""
    directory = directory / f"{name}-survival"
    directory.mkdir(parents=True)
    facts = {
        "tasks": ["stop"],
        "bundle_sha": f"bundle of {name}",
        "input_fp": "inputs",
        "holdout_fp": "landmarks",
        "has_group": True,
        "min_time_us": 100 * DAY,
        "split_policy": "time",
    }
    file = write_table(directory / "predictions.parquet", rows)
    evaluation = publish(directory, [file], facts | meta)
    return Contender(evaluation, f"bundle of {name}", "inputs", 99 * DAY)


def contender(directory, clicks, stops, name, **meta):
    """A joint model; `clicks` and `stops` are its predictions."""
    side = evaluations.contender(directory, clicks, name)
    return replace(side, survival=on_survival(directory, stops, name, **meta))


def config(nll=0.1, **fields):
    margins = {t: Margins(auc=0.02) for t in ("click", "like")} | {"stop": Margins(nll=nll)}
    return GateConfig(**{"margins": margins} | fields)
