"""Lifetimes of real data, where present (RECSYS_REALDATA); bars leave room for a seed's spread.

Standard deviations over seeds: SUPPORT and GBSG .0034 and .0045 (20 seeds), Snap .009, observed
stops .018 (5 seeds).
"""

from pathlib import Path

import pytest
import torch

from benchmarks.survival.data import load_official
from benchmarks.survival.lifetimes import paired, score_cox, score_head, score_kaplan_meier
from benchmarks.survival.snap import COVARIATES, load_lifetimes, load_statuses
from benchmarks.survival.stops import head_scores, score_stops
from tests.conftest import REALDATA

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(REALDATA is None, reason="RECSYS_REALDATA names no folder of real data"),
]
DATA = Path(str(REALDATA))
ROWS = {"support": (7098, 1775), "gbsg": (1546, 686)}
COX_C = {"support": 0.583074, "gbsg": 0.656291}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(COX_C))
def test_cox_has_its_reference_concordance(name):
    split = load_official(name, DATA)
    assert (len(split.train), len(split.test)) == ROWS[name]
    assert score_cox(split, scores=False).c.value == pytest.approx(COX_C[name], abs=1e-3)


def test_support_head_beats_cox_by_three_points():
    split = load_official("support", DATA)
    cox, head = score_cox(split, scores=False), score_head(split, seed=1)
    assert paired([head], cox)[0] > 0.03 - 2 * 0.0034
    assert head.ibs < cox.ibs < score_kaplan_meier(split).ibs


def test_gbsg_head_is_no_worse_than_cox():
    split = load_official("gbsg", DATA)
    cox, head = score_cox(split, scores=False), score_head(split, seed=1)
    gain, se = paired([head], cox)
    assert gain > -2 * se
    assert head.ibs < score_kaplan_meier(split).ibs


def test_snap_head_beats_cox_on_the_same_covariates():
    split = load_lifetimes(DATA, None)
    assert split.train.x.shape[1] == len(COVARIATES) == 11
    cox, head = score_cox(split, scores=False), score_head(split, seed=1)
    assert head.c.value > max(cox.c.value, 0.63) - 0.01


def test_observed_stops_are_told_from_what_was_known_before():
    first, risk_set = load_statuses(DATA)
    assert (len(risk_set.age), (~risk_set.delivers).sum()) == (753, 280)
    assert score_stops(head_scores(first, risk_set, 1, with_end=True), risk_set).value > 0.74
