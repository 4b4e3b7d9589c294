"""How often the gate is right about hazards, on holdouts drawn again and again."""

import numpy as np
import pytest
from scipy.stats import binom

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.registry.decision import Verdict, worst
from recsys_mtl.registry.survival_checks import survival_checks
from recsys_mtl.registry.survival_holdout import Likelihood, SurvivalHoldout
from recsys_mtl.spec.pipeline import GateConfig, Margins

from .survival_evaluations import hazards, lives, table

RUNS = 400


def draws(num_campaigns, noise=0.3):
    """Holdouts of a challenger with this noise and a champion whose is .3."""
    for seed in range(RUNS):
        w = lives(10 * seed, num_campaigns)
        challenger, champion = (
            table(w, hazards(w, seed + 1, noise)),
            table(w, hazards(w, seed + 5000)),
        )
        yield SurvivalHoldout(
            label="stop",
            unit="campaigns",
            clusters=Clusters.of(w.campaign),
            stopped=w.stopped,
            challenger=Likelihood.of(challenger),
            champion=Likelihood.of(champion),
            uncovered="",
        )


def checks(holdout, margin):
    margins = {"stop": Margins(nll=margin)}
    config = GateConfig(margins=margins, min_campaigns=2, min_stops=1)
    return list(survival_checks(holdout, config, first_champion=True))


def of_guardrail(holdouts, name, margin=1.0):
    return [c.numbers[name] for h in holdouts for c in checks(h, margin) if c.kind == "guardrail"]


@pytest.mark.parametrize(("share", "planned"), [(1.0, 0.9), (0.6, 0.54)])
@pytest.mark.parametrize("num_campaigns", [40, 100])
def test_equal_hazards_pass_as_often_as_stated(num_campaigns, share, planned):
    """A margin of the mean detectable size is passed by 90 %, of .6 of it by Phi(.11) = 54 %."""
    holdouts = list(draws(num_campaigns))
    margin = share * float(np.mean(of_guardrail(holdouts, "mde")))
    stated = np.mean(of_guardrail(holdouts, "pass_probability", margin))
    assert stated == pytest.approx(planned, abs=0.03)
    promoted = sum(worst(checks(h, margin)) is Verdict.PROMOTE for h in holdouts)
    low, high = binom.ppf([0.001, 0.999], RUNS, stated)
    assert low <= promoted <= high


@pytest.mark.parametrize("num_campaigns", [40, 100])
def test_hazards_worse_by_the_margin_rarely_pass(num_campaigns):
    """The challenger's noise is .6; the margin is its true loss."""
    holdouts = list(draws(num_campaigns, noise=0.6))
    margin = -float(np.mean(of_guardrail(holdouts, "d")))
    assert 0.01 < margin < 0.2
    promoted = sum(worst(checks(h, margin)) is Verdict.PROMOTE for h in holdouts)
    assert promoted <= binom.ppf(0.999, RUNS, 0.05)
