"""Equality with scikit-survival; `make oracles` runs it where the library is installed."""

import numpy as np
import pytest
import torch

pytest.importorskip("sksurv")

from sksurv import datasets, metrics
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import cumulative_incidence_competing_risks
from sksurv.preprocessing import OneHotEncoder

from benchmarks.survival.cox import fit_cox
from recsys_mtl.metrics.survival.brier import ipcw_brier
from recsys_mtl.metrics.survival.concordance import count_pairs, uno_c
from recsys_mtl.metrics.survival.curves import aalen_johansen, reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.models.heads.hazard import cumulative_incidence
from tests.oracles.sets import LAST, marginal_fit, tied_set

DATA = {
    "veterans_lung_cancer": (137, 128),
    "whas500": (500, 215),
    "gbsg2": (686, 299),
}
"""Rows and stops."""


def structured(o):
    rows = list(zip(o.event, o.time, strict=True))
    return np.array(rows, dtype=[("event", "?"), ("time", "f8")])


def cox_on(name):
    """The library's Cox model on a data set of its own: model, covariates, labels, outcomes."""
    columns, y = getattr(datasets, f"load_{name}")()
    x = OneHotEncoder().fit_transform(columns)
    event, time = y.dtype.names
    o = Outcomes(y[time].astype(float), y[event].astype(bool))
    assert (len(o), o.event.sum()) == DATA[name]
    return CoxPHSurvivalAnalysis().fit(x, y), x, y, o


def test_pair_counts():
    for seed in range(200):
        risk, o = tied_set(seed)
        _, *expected, _ = metrics.concordance_index_censored(o.event, o.time.astype(float), risk)
        counts = count_pairs(risk, o)
        assert [counts.concordant, counts.discordant, counts.tied] == expected
        assert min(expected) > 0


def test_uno_with_the_censoring_of_other_rows():
    for seed in range(50):
        risk, o = tied_set(seed)
        _, train = tied_set(1000 + seed)
        expected = metrics.concordance_index_ipcw(structured(train), structured(o), risk, tau=8)[0]
        found = uno_c(risk, o, reverse_kaplan_meier(train), before=8)
        assert found.value == pytest.approx(expected, abs=1e-8)


def test_uno_on_the_tie_case_of_its_issue_428():
    event = np.array([1, 0, 0, 1, 0, 1, 0], dtype=bool)
    o = Outcomes(np.array([11, 11, 26, 89, 128, 299, 300]), event)
    risk = np.array([-0.02, 1.20, -0.56, -1.33, -0.81, 1.02, -1.29])
    expected = metrics.concordance_index_ipcw(structured(o), structured(o), risk, tau=299)[0]
    found = uno_c(risk, o, reverse_kaplan_meier(o), before=299)
    assert expected == pytest.approx(0.374269, abs=1e-6)
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_brier_scores_and_their_integral():
    times = np.array([2.0, 4.0, 7.0])
    for seed in range(50):
        risk, o = tied_set(seed)
        _, train = tied_set(1000 + seed)
        survival = np.exp(-risk[:, None] * times / 5)
        rows = (structured(train), structured(o), survival, times)
        found = ipcw_brier(survival, o, times, reverse_kaplan_meier(train))
        np.testing.assert_allclose(found.values, metrics.brier_score(*rows)[1], atol=1e-12)
        expected = metrics.integrated_brier_score(*rows)
        assert found.integrated == pytest.approx(expected, abs=1e-12)


def test_incidence_of_aalen_and_johansen_and_of_the_marginal_head():
    for seed in range(30):
        _, o = tied_set(seed)
        drawn = np.random.default_rng(seed).integers(1, 3, len(o))
        cause = np.where(o.event, drawn, 0)
        times, (_, *expected) = cumulative_incidence_competing_risks(cause, o.time)
        found = aalen_johansen(o, cause, 2).at(times)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        head = cumulative_incidence(marginal_fit(o, cause, 2), torch.ones(LAST))[0].numpy()
        np.testing.assert_allclose(head[:, times.astype(int) - 1], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "counts", "harrell", "uno"),
    [
        ("veterans_lung_cancer", (6482, 2322, 0), 0.736256, 0.735737),
        ("whas500", (58933, 16216, 0), 0.784215, 0.78579),
        ("gbsg2", (92062, 41010, 0), 0.691821, 0.684139),
    ],
)
def test_known_concordance_of_cox(name, counts, harrell, uno):
    """Uno before the 80 % quantile of time."""
    model, x, y, o = cox_on(name)
    risk, before = model.predict(x), float(np.quantile(o.time, 0.8))
    found = count_pairs(risk, o)
    assert (found.concordant, found.discordant, found.tied) == counts
    assert found.value == pytest.approx(harrell, abs=1e-4)
    weighted = uno_c(risk, o, reverse_kaplan_meier(o), before=before).value
    assert weighted == pytest.approx(uno, abs=1e-4)
    expected = metrics.concordance_index_ipcw(y, y, risk, tau=before)[0]
    assert weighted == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("name", "ibs"), [("whas500", 0.142944), ("gbsg2", 0.1714)])
def test_known_brier_score_of_cox(name, ibs):
    model, x, y, o = cox_on(name)
    times = np.quantile(o.time, [0.1, 0.25, 0.5, 0.75])
    survival = np.array([curve(times) for curve in model.predict_survival_function(x)])
    found = ipcw_brier(survival, o, times, reverse_kaplan_meier(o))
    assert found.integrated == pytest.approx(ibs, abs=1e-4)
    expected = metrics.integrated_brier_score(y, y, survival, times)
    assert found.integrated == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", DATA)
def test_our_cox_is_its_cox_with_ties_after_efron(name):
    _, x, y, o = cox_on(name)
    expected = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(x, y)
    found = fit_cox(x.to_numpy(float), o)
    np.testing.assert_allclose(found.beta, expected.coef_, atol=1e-8)
