import numpy as np
import pytest
from hypothesis import given, settings

from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.bucketed import count_pairs_td
from recsys_mtl.metrics.survival.concordance import harrell_c, uno_c
from recsys_mtl.metrics.survival.curves import reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.metrics.survival.time_dependent import antolini_c
from tests.metrics.survival.loops import outlives
from tests.metrics.survival.test_bucketed import tied_curves
from tests.metrics.survival.test_concordance import world


@settings(deadline=None)
@given(tied_curves())
def test_counts_are_those_of_the_bucketed_form(drawn):
    survival, o = drawn
    counts = count_pairs_td(survival, o)
    found = antolini_c(survival, np.arange(survival.shape[1]), o)
    if not counts.total:
        assert found.value is None and found.reason
        return
    assert found.value == pytest.approx(counts.value)
    assert found.extra["pairs"] == counts.pairs
    assert found.extra["tied_share"] == pytest.approx(counts.tied / counts.total)


def test_without_crossing_curves_it_is_harrells_with_the_same_error():
    risk, o = world()
    clusters = Clusters.of(np.arange(len(risk)) // 8)
    times = np.unique(o.time)
    survival = np.exp(-np.exp(risk)[:, None] * (times + 1) / 20)
    found, expected = antolini_c(survival, times, o, clusters), harrell_c(risk, o, clusters)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.se == pytest.approx(expected.se, rel=1e-12)
    np.testing.assert_allclose(found.psi, expected.psi, atol=1e-12)


def test_curves_are_compared_on_the_day_of_the_stop():
    """Row 0 stops on day 2, where its curve lies above; on day 5 it would lie below."""
    o = Outcomes(np.array([2, 5]), np.array([True, False]))
    crossing = np.array([[0.9, 0.1], [0.8, 0.7]])
    assert antolini_c(crossing, np.array([2, 5]), o).value == 0
    assert antolini_c(crossing[:, ::-1], np.array([2, 5]), o).value == 1


def test_a_stop_without_a_column_is_refused_and_no_pair_has_a_reason():
    o = Outcomes(np.array([2, 5]), np.array([True, False]))
    with pytest.raises(ValueError, match="stop at times without a survival column"):
        antolini_c(np.ones((2, 1)), np.array([3]), o)
    none = Outcomes(o.time, np.zeros(2, bool))
    assert antolini_c(np.ones((2, 0)), np.zeros(0, int), none).reason == "no comparable pair"
    nobody = Outcomes(np.zeros(0, int), np.zeros(0, bool))
    assert antolini_c(np.ones((0, 0)), np.zeros(0, int), nobody).reason == "no observed row"


def test_weights_of_stops_give_unos_c_and_the_influence_of_every_pair():
    risk, o = world(rows=60)
    o = Outcomes(o.time, o.event)
    g = reverse_kaplan_meier(o)
    used = o.event & (o.time < 6)
    weight = np.zeros(len(risk))
    weight[used] = g.inverse(o.time[used]) ** 2
    found, counts = harrell_c(risk, o, event_weight=weight), uno_c(risk, o, g, before=6)
    assert found.value == pytest.approx(counts.value, rel=1e-12)
    assert found.extra["pairs"] == counts.pairs
    psi = np.zeros(len(risk))
    for i in np.flatnonzero(used):
        for j in range(len(risk)):
            if outlives(o, j, i):
                won = 0.5 + 0.5 * np.sign(risk[i] - risk[j])
                psi[[i, j]] += weight[i] * (won - counts.value)
    np.testing.assert_allclose(found.psi, psi * len(risk) / counts.total, atol=1e-10)
