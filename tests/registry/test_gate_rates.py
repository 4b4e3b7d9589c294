"""How often the gate is right, on holdouts drawn again and again."""

import numpy as np
import pytest
from scipy.stats import binom

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.registry.decision import Verdict, worst
from recsys_mtl.registry.gate_checks import holdout_checks
from recsys_mtl.registry.holdout import Holdout

from .evaluations import config, probs, world

RUNS = 300


def verdicts(margin, mean_rows, worse=None, num_users=500):
    found = []
    for seed in range(RUNS):
        w = world(10 * seed, num_users, mean_rows)
        challenger, champion = probs(w, seed + 1, worse=worse), probs(w, seed + 5000)
        holdout = Holdout(Clusters.of(w.user), w.labels, w.masks, challenger, champion)
        found.append(list(holdout_checks(holdout, config(margin), False, "users")))
    return found


def detectable(checks):
    return [c.numbers["mde"] for c in checks if c.kind == "guardrail" and c.verdict]


@pytest.mark.slow
@pytest.mark.parametrize("mean_rows", [10, 60])
def test_equal_model_passes_at_the_planned_joint_power(mean_rows):
    """With the margin at the mean detectable size, 90 % of equal models pass both checks."""
    margin = float(np.mean([detectable(c) for c in verdicts(1.0, mean_rows)[:50]]))
    promoted = sum(worst(c) is Verdict.PROMOTE for c in verdicts(margin, mean_rows))
    low, high = binom.ppf([0.001, 0.999], RUNS, 0.9)
    assert low <= promoted <= high


@pytest.mark.slow
def test_model_worse_by_the_margin_rarely_passes():
    """The champion's noise is .3, the challenger's .7 on `like`; the margin is the true loss."""
    draws = verdicts(1.0, 10, worse={"like": 0.7})
    losses = [
        c.numbers["d"]
        for d in draws
        for c in d
        if (c.kind, c.task, c.metric) == ("guardrail", "like", "auc")
    ]
    margin = -float(np.mean(losses))
    assert 0.01 < margin < 0.1
    promoted = sum(worst(c) is Verdict.PROMOTE for c in verdicts(margin, 10, worse={"like": 0.7}))
    assert promoted <= binom.ppf(0.999, RUNS, 0.05)
