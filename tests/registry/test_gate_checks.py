import numpy as np
import pytest
from scipy.stats import norm

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate
from recsys_mtl.registry.decision import Verdict
from recsys_mtl.registry.gate_checks import (
    Power,
    calibration,
    counts,
    floors,
    guardrail,
    joint_pass_probability,
    more_clusters,
)
from recsys_mtl.spec.pipeline import Floor

from .evaluations import config


def pair_with(gain, se, num_clusters=1000):
    """Estimates whose paired difference is `gain` with standard error `se`."""
    psi = np.resize([1.0, -1.0], num_clusters)
    psi *= se * np.sqrt(num_clusters - 1)
    users = Clusters.singletons(num_clusters)
    rest = (0.01, num_clusters, 300, num_clusters, "", {})
    champion = Estimate(0.7, *rest, psi=np.zeros(num_clusters), clusters=users)
    return Estimate(0.7 + gain, *rest, psi=psi, clusters=users), champion


def check(gain, se, margin=0.002, metric="auc"):
    return guardrail("conv", metric, pair_with(gain, se), margin, Power(0.05, 0.9, 4), "users")


def test_each_check_has_the_kth_root_of_the_joint_power():
    """Ruling R1: 0.9 over 20 checks is 0.99475 each; MDE = (1.6449 + 2.5590) SE."""
    power = Power(alpha=0.05, joint=0.9, num_checks=20)
    assert power.each**20 == pytest.approx(0.9)
    expected = norm.ppf(0.95) + norm.ppf(0.9 ** (1 / 20))
    assert power.detectable(0.001, 5000) == pytest.approx(0.001 * expected)
    assert power.detectable(0.001, 5000) == pytest.approx(0.0042, abs=1e-5)


def test_equal_model_at_the_detectable_margin_passes_with_the_planned_power():
    power = Power(0.05, 0.9, 7)
    margin = power.detectable(0.0007, 900)
    assert power.pass_probability(0.0007, margin, 900) ** 7 == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("gain", "se", "verdict", "words"),
    [
        (0.0, 0.001, "PROMOTE", "PASS: conv AUC +0.0000, interval [-0.0016, +0.0016] is above"),
        (-0.0050, 0.001, "REFUSE", "is below the margin -0.0020"),
        (-0.0015, 0.0005, "REFUSE", "crosses the margin -0.0020, where an equally good model"),
        (-0.0011, 0.0014, "HOLD", "HOLD: conv AUC -0.0011, interval [-0.0034, +0.0012] crosses"),
        (-0.0050, 0.004, "HOLD", "crosses the margin"),
    ],
)
def test_three_outcomes(gain, se, verdict, words):
    """z = 1.645; at K = 4 the detectable size is 3.59 SE."""
    found = check(gain, se)
    assert found.verdict == verdict
    assert words in found.sentence
    assert found.sentence.count("\n") == 0


def test_normalised_entropy_is_turned():
    """An NE that falls is a gain; one that rises by more than the margin is refused."""
    better, worse = check(-0.01, 0.001, metric="ne"), check(0.01, 0.001, metric="ne")
    assert (better.verdict, better.numbers["d"]) == (Verdict.PROMOTE, pytest.approx(0.01))
    assert better.numbers["L"] == pytest.approx(0.01 - 1.6449 * 0.001, abs=1e-6)
    assert worse.verdict is Verdict.REFUSE


def test_hold_says_how_many_users_are_missing():
    """MDE = 3.594 SE = .00719 against .002: 1000 (3.594^2 - 1) = 11,916, said as 12,000."""
    found = check(-0.001, 0.002)
    assert "needs about 12,000 more users" in found.sentence
    assert more_clusters(2000, 0.0025 * 2.486, 0.002) == 18_000
    assert more_clusters(100, 1.0, 1.0) == 0
    assert more_clusters(10, 1.1, 1.0) == 3


def test_undefined_metric_never_passes():
    nothing = Estimate(None, None, 5, 0, 5, "no positive row")
    found = guardrail(
        "conv", "auc", (nothing, pair_with(0, 1)[1]), 0.1, Power(0.05, 0.9, 1), "users"
    )
    assert found.verdict is Verdict.HOLD
    assert found.sentence == "HOLD: conv AUC cannot be compared (challenger: no positive row)"
    assert joint_pass_probability([found]) == 0


def test_without_margin_it_is_reported_but_not_gated():
    found = check(-0.5, 0.001, margin=None)
    assert found.verdict is None
    assert found.sentence.startswith("not gated: conv AUC -0.5000")
    assert joint_pass_probability([found]) is None


def test_identical_predictions_pass():
    found = check(0.0, 0.0)
    assert (found.verdict, found.numbers["pass_probability"]) == (Verdict.PROMOTE, 1.0)


def test_joint_probability_is_the_product():
    found = check(0.0, 0.001)
    one = norm.cdf(2 - norm.ppf(0.95))
    assert joint_pass_probability([found, found, found]) == pytest.approx(one**3)


@pytest.mark.parametrize(
    ("clusters", "n_pos", "words"),
    [
        (499, 300, "only 499 users of 500 needed"),
        (500, 199, "199 positive rows of 200"),
        (500, 801, "199 negative rows of 200"),
    ],
)
def test_minimum_counts_hold(clusters, n_pos, words):
    found = counts("conv", Estimate(0.7, 0.1, 1000, n_pos, clusters), config(), "users")
    assert found.verdict is Verdict.HOLD and words in found.sentence


def test_enough_counts_pass():
    found = counts("conv", Estimate(0.7, 0.1, 400, 200, 500), config(), "users")
    assert found.sentence == "PASS: conv has 500 users, 200 positive rows, 200 negative rows"


def measured(value, se, entropy):
    rest = (1000, 300, 1000)
    return {"auc": Estimate(value, se, *rest), "ne": Estimate(entropy, 0.01, *rest)}


@pytest.mark.parametrize(
    ("value", "se", "entropy", "verdicts"),
    [
        (0.70, 0.01, 0.9, ("PROMOTE", "PROMOTE")),
        (0.61, 0.01, 0.9, ("HOLD", "PROMOTE")),
        (0.60, 0.01, 1.0, ("REFUSE", "REFUSE")),
        (None, None, None, ("HOLD", "HOLD")),
    ],
)
def test_floors(value, se, entropy, verdicts):
    """Floor .6: .70 is above it by ten errors, .61 by one, .60 not at all."""
    found = floors("conv", measured(value, se, entropy), Floor(auc=0.6), 0.05)
    assert tuple(c.verdict for c in found) == verdicts


def test_calibration_is_reported():
    labels = np.arange(1000) % 2
    ratio = Estimate(1.2, 0.05, 1000, 500, 100)
    found = calibration("conv", ratio, auc(np.ones(1000), labels))
    assert found.verdict is None
    assert found.sentence.endswith("positives 1.200, interval [1.102, 1.298]")
