"""Equality with lifelines; `make oracles` runs it where the library is installed.

Its rows are at risk after `entry`, ours from the day of entry on: its entry is ours less one day.
Its Aalen-Johansen estimate moves tied times at random, so that of scikit-survival is taken.
"""

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("lifelines")

from lifelines import CoxPHFitter, KaplanMeierFitter, NelsonAalenFitter
from lifelines.datasets import load_rossi
from lifelines.utils import concordance_index
from lifelines.utils.concordance import _concordance_summary_statistics

from benchmarks.survival.cox import fit_cox
from recsys_mtl.metrics.survival.concordance import count_pairs
from recsys_mtl.metrics.survival.curves import kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.models.heads.hazard import daily_hazards, log_alive, log_survival
from recsys_mtl.objectives.hazard import daily_hazard_loss, exposures
from tests.oracles.sets import LAST, late_set, marginal_fit, tied_set

DAYS = np.arange(1, LAST + 1)


def kaplan_meier_of_lifelines(o, **options):
    return KaplanMeierFitter().fit(o.time, o.event, entry=o.entry - 1, **options)


def test_pair_counts():
    """It scores survival times: its sign is the opposite of ours."""
    for seed in range(200):
        risk, o = tied_set(seed)
        expected = _concordance_summary_statistics(o.time, -risk, o.event)
        counts = count_pairs(risk, o)
        assert (counts.concordant, counts.tied, counts.pairs) == expected
        assert counts.value == concordance_index(o.time, -risk, o.event)


def test_kaplan_meier_with_late_entry():
    for seed in range(50):
        o = late_set(seed)
        assert (o.entry > 1).any()
        expected = kaplan_meier_of_lifelines(o).survival_function_at_times(DAYS)
        np.testing.assert_allclose(kaplan_meier(o).at(DAYS), expected, atol=1e-12)


def test_kaplan_meier_with_late_entry_and_weights():
    for seed in range(20):
        o = late_set(seed)
        weight = np.random.default_rng(seed).integers(1, 4, len(o))
        weighted = Outcomes(o.time, o.event, o.entry, weight)
        expected = kaplan_meier_of_lifelines(o, weights=weight).survival_function_at_times(DAYS)
        np.testing.assert_allclose(kaplan_meier(weighted).at(DAYS), expected, atol=1e-12)


def test_marginal_head_with_late_entry():
    """Hazards are the steps of Nelson and Aalen, survival is Kaplan and Meier's."""
    fitter = NelsonAalenFitter(nelson_aalen_smoothing=False)
    for seed in range(50):
        o = late_set(seed)
        z = marginal_fit(o, o.event.astype(int), 1)
        fitted = fitter.fit(o.time, o.event, entry=o.entry - 1)
        steps = np.diff(fitted.cumulative_hazard_at_times(DAYS), prepend=0)
        np.testing.assert_allclose(daily_hazards(z)[0, 0], steps, atol=1e-12)
        curve = log_survival(log_alive(z), torch.ones(LAST))[0].exp()
        expected = kaplan_meier_of_lifelines(o).survival_function_at_times(DAYS)
        np.testing.assert_allclose(curve, expected, atol=1e-12)


def test_ignoring_late_entry_is_seen():
    """Days before entry, which nobody could see end in a stop, make the same curve too high."""
    gaps = []
    for seed in range(50):
        o = late_set(seed)
        naive = kaplan_meier(Outcomes(o.time, o.event)).at(DAYS[:4])
        expected = kaplan_meier_of_lifelines(o).survival_function_at_times(DAYS[:4])
        gaps.append(naive - expected)
    assert np.mean(gaps) > 0.02


def cox_of_lifelines(x, o):
    table = pd.DataFrame(x).assign(time=o.time, event=o.event)
    return CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})


def test_known_cox_on_rossi():
    data = load_rossi()
    x = data.drop(columns=["week", "arrest"])
    o = Outcomes(data["week"].to_numpy(), data["arrest"].to_numpy(bool))
    assert (len(o), o.event.sum()) == (432, 114)
    model = fit_cox(x.to_numpy(float), o)
    assert count_pairs(model.risk(x.to_numpy(float)), o).value == pytest.approx(0.640329, abs=1e-4)
    assert model.log_likelihood == pytest.approx(-658.7477, abs=1e-4)
    found = dict(zip(x.columns, model.beta, strict=True))
    known = {"fin": -0.3794, "age": -0.0574, "prio": 0.0915}
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-4)
    np.testing.assert_allclose(model.beta, cox_of_lifelines(x, o).params_, atol=1e-6)


def test_cox_and_its_baseline_on_tied_sets():
    for seed in range(10):
        _, o = tied_set(seed)
        x = np.random.default_rng(seed).normal(size=(len(o), 3))
        model, expected = fit_cox(x, o), cox_of_lifelines(x, o)
        np.testing.assert_allclose(model.beta, expected.params_, atol=1e-6)
        assert model.log_likelihood == pytest.approx(expected.log_likelihood_, abs=1e-8)
        curves = expected.predict_survival_function(pd.DataFrame(x), times=DAYS)
        np.testing.assert_allclose(model.survival(x, DAYS), curves.T, atol=1e-6)


def running_ads(seed):
    """x, and outcomes of those of 20,000 ads that still ran when they were first seen.

    P(stop on a day) = .003 exp(.8 x); each is followed for 31 days at most, and up to day 200.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=20_000)
    life, entry = rng.geometric(0.003 * np.exp(0.8 * x)), rng.integers(1, 200, 20_000)
    last = np.minimum(np.minimum(life, entry + 30), 200)
    seen = life >= entry
    weight = rng.integers(1, 4, 20_000)
    return x[seen], Outcomes(last[seen], (life == last)[seen], entry[seen], weight[seen])


def effect_by_days(x, o):
    """b of the daily hazards sigmoid(a_j + b x) in intervals of ten days."""
    edges = torch.arange(1, 202, 10)
    columns = (o.entry, o.time, o.event.astype(int))
    counts = exposures(*map(torch.from_numpy, columns), edges, 1)
    days, events = (part.double() for part in counts)
    feature, weight = torch.from_numpy(x)[:, None], torch.from_numpy(o.weight).double()
    a = torch.full((len(edges) - 1,), -5.0, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([a, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        total, rows = daily_hazard_loss((a + b * feature)[:, None], days, events, weight)
        (total / rows).backward()
        return total / rows

    optimiser.step(closure)
    return b.item()


def effect_by_cox(x, o):
    columns = {"x": x, "time": o.time, "event": o.event, "entry": o.entry - 1, "weight": o.weight}
    fitter = CoxPHFitter()
    fitter.fit(pd.DataFrame(columns), "time", "event", entry_col="entry", weights_col="weight")
    return fitter.params_["x"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::lifelines.exceptions.StatisticalWarning")
def test_effect_of_a_feature_with_late_entry_and_weights(seed):
    """Small daily hazards that are proportional are nearly Cox's; its baseline is freer than ours.

    Who enters late was spared so far; without entries the effect of x looks larger than it is.
    """
    x, late = running_ads(seed)
    plain = Outcomes(late.time, late.event, late.entry, np.ones_like(late.weight))
    for o in (plain, late):
        assert effect_by_days(x, o) == pytest.approx(effect_by_cox(x, o), abs=0.005)
    ignored = Outcomes(plain.time, plain.event, np.ones_like(late.entry), plain.weight)
    assert effect_by_days(x, ignored) > effect_by_cox(x, plain) + 0.1
