"""Equality with published implementations; each test runs where the library is installed."""

import numpy as np
import pytest

from recsys_mtl.metrics.survival.brier import ipcw_brier
from recsys_mtl.metrics.survival.bucketed import count_pairs_td
from recsys_mtl.metrics.survival.concordance import count_pairs, uno_c
from recsys_mtl.metrics.survival.curves import kaplan_meier, reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes


def tied_set(seed):
    """40 to 120 rows, at most 9 times and 8 risks, the last row censored last."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(40, 120))
    time, event = rng.integers(1, 10, rows), rng.random(rows) < 0.6
    time[-1], event[-1] = 11, False
    return rng.integers(0, 8, rows) / 8, Outcomes(time, event)


def structured(outcomes):
    return np.array(
        list(zip(outcomes.event, outcomes.time, strict=True)),
        dtype=[("event", "?"), ("time", "f8")],
    )


def test_counts_of_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    for seed in range(200):
        risk, o = tied_set(seed)
        _, concordant, discordant, tied, _ = metrics.concordance_index_censored(
            o.event, o.time.astype(float), risk
        )
        counts = count_pairs(risk, o)
        assert (counts.concordant, counts.discordant, counts.tied) == (concordant, discordant, tied)


def test_uno_of_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    for seed in range(50):
        risk, o = tied_set(seed)
        expected = metrics.concordance_index_ipcw(structured(o), structured(o), risk, tau=8)[0]
        found = uno_c(risk, o, reverse_kaplan_meier(o), before=8)
        assert found.value == pytest.approx(expected, abs=1e-8)


def test_brier_of_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    times = np.array([2.0, 4.0, 7.0])
    for seed in range(50):
        risk, o = tied_set(seed)
        survival = np.exp(-risk[:, None] * times / 5)
        _, expected = metrics.brier_score(structured(o), structured(o), survival, times)
        found = ipcw_brier(survival, o, times, reverse_kaplan_meier(o))
        np.testing.assert_allclose(found.values, expected, atol=1e-8)


def test_cox_on_veterans_of_scikit_survival():
    """Harrell .736256 from 6482 and 2322 pairs, Uno up to the 80 % quantile .735737."""
    datasets = pytest.importorskip("sksurv.datasets")
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.preprocessing import OneHotEncoder

    columns, y = datasets.load_veterans_lung_cancer()
    x = OneHotEncoder().fit_transform(columns)
    risk = CoxPHSurvivalAnalysis().fit(x, y).predict(x)
    o = Outcomes(y["Survival_in_days"].astype(float), y["Status"].astype(bool))
    counts = count_pairs(risk, o)
    assert (counts.concordant, counts.discordant, counts.tied) == (6482, 2322, 0)
    assert counts.value == pytest.approx(0.736256, abs=1e-4)
    uno = uno_c(risk, o, reverse_kaplan_meier(o), before=float(np.quantile(o.time, 0.8)))
    assert uno.value == pytest.approx(0.735737, abs=1e-4)


def test_concordance_of_lifelines():
    """lifelines scores survival times: its sign is the opposite of ours."""
    utils = pytest.importorskip("lifelines.utils")
    for seed in range(200):
        risk, o = tied_set(seed)
        expected = utils.concordance_index(o.time, -risk, o.event)
        assert count_pairs(risk, o).value == pytest.approx(expected, abs=1e-12)


def test_kaplan_meier_of_lifelines_with_entry():
    """Its rows are at risk after `entry`, ours from the entry day on."""
    lifelines = pytest.importorskip("lifelines")
    for seed in range(20):
        _, o = tied_set(seed)
        entry = np.minimum(np.random.default_rng(seed).integers(1, 5, len(o)), o.time)
        entry[:10] = 1
        fitted = lifelines.KaplanMeierFitter().fit(o.time, o.event, entry=entry - 1)
        days = np.arange(1, 11)
        found = kaplan_meier(Outcomes(o.time, o.event, entry)).at(days)
        expected = fitted.survival_function_at_times(days).to_numpy()
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_td_concordance_of_pycox():
    """Its method antolini counts pairs of equal survival as 0."""
    concordance = pytest.importorskip("pycox.evaluation.concordance")
    for seed in range(20):
        _, o = tied_set(seed)
        curves = np.cumprod(np.random.default_rng(seed).choice([0.5, 0.75], (len(o), 12)), axis=1)
        expected = concordance.concordance_td(o.time, o.event, curves.T, o.time, "antolini")
        counts = count_pairs_td(curves, o)
        assert counts.concordant / counts.total == pytest.approx(expected, abs=1e-8)
