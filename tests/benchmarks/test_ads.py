"""What the ads benchmark measures with, on cases small enough to count."""

from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.ads.baselines import by_landmark
from benchmarks.ads.features import Matrices, click_rate_ratio
from benchmarks.ads.marginal import NO_CENSORED, NO_ENTRY, RIGHT, fitted
from benchmarks.ads.measure import (
    EDGES,
    Hazards,
    LandmarkRows,
    calibrated,
    concordance,
    life_of_curves,
    risks,
)
from benchmarks.ads.observer import observed_survival
from benchmarks.ads.operators import Operators
from benchmarks.ads.page import page
from benchmarks.ads.world import Truth, make, read_days
from recsys_mtl.simulate.ads_world import WorldConfig

CONFIG = WorldConfig(num_creatives=6_000, num_users=50, num_days=40, days_before=40, rows_per_day=5)


def rows_of(entry, exit_, stopped):
    entry, exit_ = (np.array(values, np.int64) for values in (entry, exit_))
    event = np.where(stopped, 1 + (exit_ >= 10), 0)
    return LandmarkRows(np.arange(len(entry)), np.arange(len(entry)), entry, exit_, event)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("ads")
    make(root, CONFIG)
    return root, Truth.read(root)


def test_pairs_are_formed_within_landmarks_and_stops_after_day_nine_are_not_short():
    rng = np.random.default_rng(0)
    n = 60
    entry = rng.choice([1, 3, 10], n)
    exit_ = entry + rng.integers(0, 15, n)
    stopped = rng.random(n) < 0.7
    rows, risk = rows_of(entry, exit_, stopped), rng.integers(0, 5, n).astype(float)
    won = pairs = 0
    for i, j in permutations(np.flatnonzero(entry < 10), 2):
        stops_first = exit_[i] < exit_[j] or (exit_[i] == exit_[j] and not stopped[j])
        if entry[i] == entry[j] and stopped[i] and exit_[i] <= 9 and stops_first:
            pairs += 1
            won += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    found = concordance(risk, rows, "short")
    assert found.value == pytest.approx(won / pairs)
    assert found.psi.sum() == pytest.approx(0)


def test_a_constant_hazard_has_the_same_life_as_a_curve_and_in_closed_form():
    rows, p = rows_of([1, 7, 10], [1, 7, 10], [True, False, True]), 0.2
    z = torch.full((3, 2, len(EDGES) - 1), float(np.log(p / 2 / (1 - p))), dtype=torch.float64)
    by_grid = risks(Hazards(z, EDGES).life(rows), rows)
    by_curve = risks(life_of_curves(np.tile((1 - p) ** np.arange(1, 31), (3, 1))), rows)
    for scope, num_days in (("overall", np.full(3, 30)), ("short", np.array([9, 3, 1]))):
        lost = 1 - (1 - (1 - p) ** num_days) / p / num_days
        np.testing.assert_allclose(by_grid[scope], lost, atol=1e-12)
        np.testing.assert_allclose(by_curve[scope], lost, atol=1e-12)


def test_expected_stops_of_a_finer_grid_are_summed_by_bucket(world):
    rows = rows_of([1, 2, 8], [4, 2, 12], [True, False, True])
    edges = torch.tensor(sorted({*EDGES.tolist(), 2, 4, 12}))
    hazard = np.linspace(0.01, 0.1, len(edges) - 1)
    logits = np.log(hazard / (1 - 2 * hazard))
    z = torch.from_numpy(np.tile(logits, (3, 2, 1)))
    found = calibrated(Hazards(z, edges), rows, world[1])
    daily = dict(zip(edges.tolist(), hazard, strict=False))
    first = daily[1] + 2 * daily[2]
    assert found["expected"][0][:2] == pytest.approx([first, daily[3] + daily[4]])
    late = daily[7] * 2 + daily[10] * 2 + daily[12]
    assert sum(found["expected"][0][3:]) == pytest.approx(late)
    assert found["observed"][0][:2] == [0, 1] and found["observed"][1][4] == 1


def test_exposures_from_entry_find_the_hazards_and_the_mistakes_do_not(world):
    root, truth = world
    found = fitted(read_days(root, "delivery"), truth, CONFIG)
    assert found["late_entry"] > 100
    # The oldest cells of so small a world hold a handful of stops.
    error = {
        way: np.abs(np.subtract(hazards, found["true"]))[:5].mean()
        for way, hazards in found["hazards"].items()
    }
    assert error[RIGHT] < 0.012
    assert error[NO_ENTRY] > 2 * error[RIGHT]
    assert error[NO_CENSORED] > 4 * error[RIGHT]


def test_the_observer_ranks_between_chance_and_the_oracle(world):
    root, truth = world
    known, tested = (truth.states.creative % 2 == part for part in (0, 1))
    chosen = np.flatnonzero(tested & (truth.states.age == 3))
    last = np.zeros(CONFIG.num_creatives, np.int64)
    np.maximum.at(last, truth.states.creative, truth.states.age)
    creative = truth.states.creative[chosen]
    born_inside = truth.at(creative, np.ones_like(creative)) >= 0
    chosen, creative = chosen[born_inside], creative[born_inside]
    log = read_days(root, "delivery")
    stops = np.unique(log.filter(log["stopped"])["creative"].to_numpy())
    entry = np.full(len(chosen), 3)
    rows = rows_of(entry, last[creative], np.isin(creative, stops))
    seen = observed_survival(truth, root, chosen, np.unique(truth.states.creative[known]), 30)
    curves = {"observer": seen, "oracle": truth.survival(chosen, 30)}
    c = {
        name: concordance(risks(life_of_curves(curve), rows)["short"], rows, "short").value
        for name, curve in curves.items()
    }
    assert 0.68 < c["observer"] < c["oracle"]
    again = observed_survival(truth, root, chosen, np.unique(truth.states.creative[known]), 30)
    np.testing.assert_array_equal(seen, again)


def test_beliefs_about_operators_are_as_wrong_as_they_say(world):
    root, truth = world
    chosen = np.flatnonzero((truth.states.age == 1) & (truth.states.creative % 3 == 0))
    found = Operators.of(truth, root, chosen)
    creative = truth.states.creative[chosen]
    true = np.stack([truth.ads.strictness, np.log(truth.ads.level)], axis=1)[creative]
    error = (true - found.mean) / found.sd
    np.testing.assert_allclose((error**2).mean(axis=0), 1, atol=0.2)
    for k, least in enumerate((0.3, 0.5)):
        assert np.corrcoef(true[:, k], found.mean[:, k])[0, 1] > least
    assert found.sd[:, 0].max() <= 0.3


def test_the_first_of_an_advertiser_and_campaign_is_believed_average(world):
    root, truth = world
    log = read_days(root, "delivery")
    first = log["day"].combine_chunks()[0]
    born = log.filter(pa.compute.equal(log["day"], first))["creative"].to_numpy()
    states = truth.at(born, np.ones_like(born))
    found = Operators.of(truth, root, states[states >= 0])
    assert len(found.mean) > 20
    np.testing.assert_array_equal(found.mean, np.tile([0, 5.3], (len(found.mean), 1)))


def test_a_creative_without_impressions_has_the_click_rate_of_its_genre():
    rng = np.random.default_rng(0)
    n = rng.integers(50, 500, 200)
    genre = np.array(["a", "b"])[np.arange(200) % 2]
    clicks = rng.binomial(n, rng.beta(2, 98, 200) * np.where(genre == "a", 1, 3))
    n[:2] = clicks[:2] = 0
    part = ["train"] * 150 + ["test"] * 50
    rows = pa.table({"clicks": clicks, "impressions": n, "genre": genre, "part": part})
    ratio = click_rate_ratio(rows, clicks, n)
    np.testing.assert_allclose(ratio[:2], 1)
    for name in "ab":
        assert ratio[genre == name].mean() == pytest.approx(1, abs=0.15)
    order = np.argsort(clicks / np.maximum(n, 1))
    assert ratio[order[-1]] > 1.5 and ratio[order[5]] < 0.8


def test_a_baseline_learns_each_landmark_from_its_own_train_rows():
    rng = np.random.default_rng(0)
    n = 120
    landmark = rng.choice([1, 7, 10], n)
    late = rng.random(n) < 0.2
    part = rng.choice(["train", "test"], n)
    rows = pa.table(
        {
            "part": part,
            "landmark": landmark,
            "entry": landmark + late,
            "exit": landmark + late + rng.integers(0, 9, n),
            "stopped": rng.integers(0, 2, n),
            "advertiser": rng.integers(0, 5, n),
        }
    )
    parts = [rng.random((n, k)) for k in (3, 8, 2, 3, 4)]
    asked = {}

    def fitted(x, outcomes, of, horizons):
        asked[horizons["short"]] = len(x), len(outcomes.time), len(of)
        return {scope: np.full(len(of), float(days)) for scope, days in horizons.items()}

    found = by_landmark(rows, Matrices(*parts), fitted)
    for age, short in ((1, 9), (7, 3), (10, 1)):
        train = (landmark == age) & ~late & (part == "train")
        tested = (landmark == age) & (part == "test")
        assert asked[short] == (train.sum(), train.sum(), tested.sum())
    test = landmark[part == "test"]
    np.testing.assert_array_equal(found["short"], np.select([test == 1, test == 7], [9, 3], 1))
    assert set(found["overall"]) == set(found["long"]) == {30}


def test_the_page_shows_rows_changes_and_bars():
    def row(case, metric, value, interval=(None, None)):
        return {"case": case, "metric": metric, "value": value, "interval": interval}

    rows = [
        row("Cox", "overall C", 0.7, (0.65, 0.75)),
        row("Cox", "overall C - oracle's", -0.1),
        row("candidate: grid", "overall C - oracle's", -0.2),
        row("without title - model", "nats per row", 0.05),
        row("O/E, model", "days 1-2", 1.01),
    ]
    bars = [{"bar": "a gap", "found": 0.03, "at_most": 0.02, "met": False}]
    lines = page({"rows": rows, "bars": bars, "facts": {"creatives": [1, 2]}}).splitlines()
    assert lines[0].startswith("2 worlds")
    assert "| Cox |  |  | 0.7000 [0.6500, 0.7500] |  |  | -0.1000 |" in lines
    assert "| without title |  |  |  | 0.0500 |" in lines
    assert "| O/E, model | 1.0100 |" in lines
    assert "| a gap | 0.0300 | 0.0200 | **missed** |" in lines
    assert not any("candidate" in line for line in lines)
