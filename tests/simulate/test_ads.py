"""The simulated ads: stops follow their hazards, and what drives them shows only in traces."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from recsys_mtl.cli.main import app
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.simulate.ads import STATUSES, simulate, write_world
from recsys_mtl.simulate.ads_hazards import CAUSES, AdTruth, AtRisk, hazard_path, oracle_risk
from recsys_mtl.simulate.ads_world import NEVER, World, WorldConfig, make_world

CONFIG = WorldConfig(num_creatives=30_000, num_days=50, days_before=40, rows_per_day=2_000)
SMALL = {"num_creatives": 300, "num_users": 40, "num_days": 4, "days_before": 30}
WIDTH = 100


@dataclass(frozen=True)
class Log:
    """All days of a world: matrices [creative, age - 1], zero where nothing was delivered."""

    world: World
    ads: AtRisk
    ctr: np.ndarray
    hazard: np.ndarray
    stopped: np.ndarray
    counts: dict[str, np.ndarray]

    def by_age(self, values: np.ndarray) -> np.ndarray:
        matrix = np.zeros((CONFIG.num_creatives, WIDTH), values.dtype)
        matrix[self.ads.creative, self.ads.age - 1] = values
        return matrix

    def landmark(self, age: int) -> tuple[AtRisk, np.ndarray, np.ndarray]:
        """Creatives delivering on an age whose earlier days are logged; last days, stopped."""
        rows = np.flatnonzero((self.ads.age == age) & (self.world.launch[self.ads.creative] >= 0))
        ads = AtRisk(*(values[rows] for values in self.ads.columns().values()))
        last = np.zeros(CONFIG.num_creatives, np.int64)
        np.maximum.at(last, self.ads.creative, self.ads.age)
        is_stopped = self.by_age(self.stopped).any(1)
        return ads, last[ads.creative], is_stopped[ads.creative]


@pytest.fixture(scope="module")
def days():
    world = make_world(CONFIG)
    return world, list(simulate(world, CONFIG))


@pytest.fixture(scope="module")
def log(days):
    world, logs = days
    fields = AtRisk.__dataclass_fields__
    ads = AtRisk(*(np.concatenate([getattr(day.ads, name) for day in logs]) for name in fields))
    active = [day.status == STATUSES.index("active") for day in logs]
    counts = {
        name: np.concatenate([d.totals[name][a] for d, a in zip(logs, active, strict=True)])
        for name in logs[0].totals
    }
    ctr, hazard = (
        np.concatenate([getattr(day, name) for day in logs]) for name in ("ctr", "hazard")
    )
    return Log(world, ads, ctr, hazard, counts.pop("stopped"), counts)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("ads")
    return root, write_world(root, WorldConfig(**SMALL, rows_per_day=1_000))


def deviation(found, p):
    """Sum of Bernoulli outcomes less its expectation, in standard errors."""
    return (found - p.sum()) / np.sqrt((p * (1 - p)).sum())


@pytest.mark.parametrize("ages", [(1, 3), (3, 5), (5, 7), (7, 10), (10, 30), (30, 91)])
def test_stops_follow_their_hazards(log, ages):
    rows = (ages[0] <= log.ads.age) & (log.ads.age < ages[1])
    assert rows.sum() > 1_000
    assert abs(deviation(log.stopped[rows].sum(), log.hazard[rows].sum(1))) < 4


def test_causes_are_split_at_age_ten(log):
    cut_out, wear_out = log.hazard.T
    assert CAUSES == ("cut_out", "wear_out")
    np.testing.assert_array_equal(cut_out > 0, log.ads.age < 10)
    np.testing.assert_array_equal(wear_out > 0, log.ads.age >= 10)
    assert min(log.stopped[log.ads.age < 10].sum(), log.stopped[log.ads.age >= 10].sum()) > 300


@pytest.mark.parametrize("age", [1, 3, 10])
def test_paths_from_a_landmark_expect_the_stops_that_happen(log, age):
    """Expected stops over the delivered days, so that censoring and pauses do not matter."""
    ads, last, is_stopped = log.landmark(age)
    hazard = hazard_path(log.world.truth, ads, 30).hazard.sum(1)
    at_risk = log.by_age(log.ctr)[ads.creative, age - 1 : age + 29] > 0
    found = (is_stopped & (last < age + 30)).sum()
    assert found > 300
    assert abs(found - hazard[at_risk].sum()) < 4 * np.sqrt(found)


def test_deliveries_click_at_the_true_rate(log):
    n, clicks = log.counts["impressions"], log.counts["clicks"]
    # User effects have mean one over users but for chance, and touch a part of the rows only.
    error = clicks.sum() - (n * log.ctr).sum()
    assert abs(error) < 4 * np.sqrt((n * log.ctr).sum()) + 0.005 * clicks.sum()


def test_conversions_follow_their_rate(log):
    clicks = log.counts["clicks"]
    expected = clicks * np.minimum(log.world.conversion_rate[log.ads.creative], 1)
    assert abs(log.counts["conversions"].sum() - expected.sum()) < 4 * np.sqrt(expected.sum())


def test_clicks_of_rows_are_calibrated_within_bins_of_the_truth(days):
    p = np.concatenate([day.impressions.p_click for day in days[1]])
    is_click = np.concatenate([day.impressions.is_click for day in days[1]])
    for rows in np.array_split(np.argsort(p), 10):
        assert abs(deviation(is_click[rows].sum(), p[rows])) < 4.5


def test_click_rates_decay_while_a_creative_runs(log):
    rates = log.by_age(log.ctr)
    goes_on = (rates[:, 1:] > 0) & (rates[:, :-1] > 0)
    assert (rates[:, 1:] < rates[:, :-1])[goes_on].all()
    clicks, n = log.by_age(log.counts["clicks"]), log.by_age(log.counts["impressions"])
    old = (n[:, :7].sum(1) > 0) & (n[:, 19:30].sum(1) > 0)
    early = clicks[old, :7].sum(1) / n[old, :7].sum(1)
    late = clicks[old, 19:30].sum(1) / n[old, 19:30].sum(1)
    assert late.mean() < 0.9 * early.mean()


def test_the_first_day_finds_creatives_that_survived_their_launch(days):
    world, logs = days
    running = logs[0].creative[world.launch[logs[0].creative] < 0]
    assert len(running) > 0.5 * len(logs[0].creative)
    fresh = (world.launch >= 0) & (world.launch < CONFIG.num_days)
    quality = world.truth.quality
    assert quality[running].mean() > quality[fresh].mean() + 0.3
    assert (logs[0].ads.age > 1).sum() > 0.5 * len(logs[0].ads.age)


def test_a_fifth_of_the_creatives_makes_most_of_the_sales(log):
    spend, is_run = log.by_age(log.counts["spend"]), log.by_age(log.counts["impressions"]) > 0
    seen = is_run.any(1) & (log.world.launch >= 0) & (log.world.launch < CONFIG.num_days - 25)
    is_long = is_run[seen, 6:].any(1)
    assert 0.15 < is_long.mean() < 0.3
    assert 0.7 < spend[seen][is_long].sum() / spend[seen].sum() < 0.9


def test_a_creative_leaves_the_log_once(days):
    world, logs = days
    gone = np.zeros(CONFIG.num_creatives, bool)
    for day, today in enumerate(logs):
        assert not gone[today.creative].any()
        close = world.campaigns.close[world.campaign[today.creative]]
        planned = world.campaigns.planned_end[world.campaign[today.creative]]
        status = np.array(STATUSES)[today.status]
        assert (close[status == "ended"] == day).all()
        assert (planned[status == "ended"] == day - 1).all()
        assert (close[status == "budget"] == day).all()
        assert (planned[status == "budget"] >= day).all()
        idle = status != "active"
        assert not any(values[idle].any() for values in today.totals.values())
        assert (today.totals["impressions"][~idle] > 0).all()
        gone[today.creative[today.totals["stopped"] | np.isin(status, ["ended", "budget"])]] = True
    seen = {name for today in logs for name in np.array(STATUSES)[today.status]}
    assert seen == set(STATUSES)


def test_running_creatives_are_in_the_log_every_day(days):
    logs = days[1]
    for yesterday, today in zip(logs, logs[1:], strict=False):
        is_open = np.isin(yesterday.status, [STATUSES.index(s) for s in ("active", "paused")])
        stays = yesterday.creative[is_open & ~yesterday.totals["stopped"]]
        assert np.isin(stays, today.creative).all()
        assert len(today.creative) > len(stays)


def test_plans_do_not_know_quality_or_fatigue(days):
    world = days[0]
    campaigns, num_advertisers = world.campaigns, len(np.unique(world.campaigns.advertiser))
    columns = {
        "creative": np.arange(CONFIG.num_creatives),
        "launch": world.launch,
        "close": np.minimum(campaigns.close, 300)[world.campaign],
        "planned_end": np.where(campaigns.planned_end == NEVER, 300, campaigns.planned_end)[
            world.campaign
        ],
        "target_gender": world.target_gender,
        "level": np.log(world.truth.level),
    }
    for name, values in columns.items():
        # Creatives of one advertiser are alike in quality.
        for latent, n in (
            (world.truth.quality, num_advertisers),
            (world.truth.fatigue, CONFIG.num_creatives),
        ):
            assert abs(np.corrcoef(values, latent)[0, 1]) < 4 / np.sqrt(n), name


def test_the_oracle_beats_stopping_the_lowest_click_rate(log):
    ads, last, is_stopped = log.landmark(3)
    outcomes = Outcomes(np.minimum(last, 9), is_stopped & (last <= 9))
    clicks, n = log.by_age(log.counts["clicks"]), log.by_age(log.counts["impressions"])
    ctr = clicks[ads.creative, :2].sum(1) / np.maximum(n[ads.creative, :2].sum(1), 1)
    target = log.world.truth.target[ads.creative]
    best = harrell_c(oracle_risk(log.world.truth, ads, 7), outcomes).value
    for rule in (-ctr, -ctr / target, -n[ads.creative, 1]):
        assert 0.5 < harrell_c(rule, outcomes).value < best - 0.05
    assert harrell_c(-ctr, outcomes).value < best - 0.1
    assert best > 0.75


def r_squared(inputs, values):
    """Of a ridge fit on even rows, on odd ones."""
    inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
    # A title has ten words whatever they are: collinear with the constant but for the ridge.
    ridge = inputs[::2].T @ inputs[::2] + np.eye(inputs.shape[1])
    weights = np.linalg.solve(ridge, inputs[::2].T @ values[::2])
    error = values[1::2] - inputs[1::2] @ weights
    return 1 - error.var() / values[1::2].var()


def test_title_and_image_are_noisy_traces(tmp_path):
    config = WorldConfig(**SMALL | {"num_creatives": 3_000, "num_days": 1}, rows_per_day=10)
    write_world(tmp_path, config)
    table, truth = pq.read_table(tmp_path / "creatives.parquet"), AdTruth.read(tmp_path)
    image = np.stack([table[f"image_{k}"].to_numpy() for k in range(8)], axis=1)
    titles = np.array([[int(w[5:]) for w in words] for words in table["title"].to_pylist()])
    bag = np.zeros((len(titles), 200))
    np.put_along_axis(bag, titles, 1, axis=1)
    assert (bag.sum(1) == 10).all()
    assert 0.6 < r_squared(bag, truth.quality) < 0.95
    assert 0.6 < r_squared(image, truth.fatigue) < 0.95
    assert r_squared(bag, truth.fatigue) < 0.7
    assert r_squared(image, truth.quality) < 0.85


def test_raw_files_hold_their_contract_and_nothing_latent(files):
    root = files[0]
    ids = {"creative": pa.int64(), "campaign": pa.int64(), "advertiser": pa.int64()}
    ids["genre"] = pa.string()
    counts = dict.fromkeys(("impressions", "clicks", "conversions"), pa.int64())
    delivery = ids | {"day": pa.date32()} | counts | {"spend": pa.float64()}
    delivery |= {"stopped": pa.bool_(), "status": pa.string()}
    delivery |= {"planned_end": pa.date32(), "launched": pa.date32()}
    rows = {"row_id": pa.int64(), "user": pa.int64()} | ids
    rows |= {"time": pa.timestamp("us", "UTC"), "hour": pa.int8()}
    creatives = {"creative": pa.int64(), "target_gender": pa.string(), "title": None}
    creatives |= {f"image_{k}": pa.float64() for k in range(8)}
    contract = {
        "delivery/2026-03-01.parquet": delivery,
        "impressions/2026-03-01.parquet": rows | {"is_click": pa.int8()},
        "candidates/2026-03-01.parquet": rows,
        "creatives.parquet": creatives,
        "users.parquet": {"user": pa.int64(), "gender": pa.string(), "interest": pa.string()},
    }
    for name, types in contract.items():
        schema = pq.read_schema(root / name)
        assert schema.names == list(types), name
        found = {k: schema.field(k).type for k, kind in types.items() if kind is not None}
        assert found == {k: kind for k, kind in types.items() if kind is not None}, name
    assert pa.types.is_list(pq.read_schema(root / "creatives.parquet").field("title").type)
    logs = {path.relative_to(root).parts[0] for path in root.rglob("*.parquet")}
    assert logs == {name.split("/")[0] for name in contract} | {"oracle"}


def test_rows_are_a_part_of_the_deliveries(files):
    root, num_rows = files
    found = 0
    for path in sorted((root / "delivery").glob("*.parquet")):
        delivery = pq.read_table(path)
        rows = pq.read_table(root / "impressions" / path.name)
        found += len(rows)
        creative = delivery["creative"].to_numpy()
        at = np.searchsorted(creative, rows["creative"].to_numpy())
        is_click = rows["is_click"].to_numpy()
        assert (np.bincount(at, minlength=len(creative)) <= delivery["impressions"]).all()
        assert (np.bincount(at, is_click, len(creative)) <= delivery["clicks"]).all()
        truth = pq.read_table(root / "oracle" / "clicks" / path.name)
        assert truth["row_id"].equals(rows["row_id"])
        days = set(rows["time"].cast(pa.date32()).to_pylist())
        assert days == set(delivery["day"].to_pylist()) == {_date(path)}
    assert found == num_rows
    ids = pq.read_table(root / "impressions", columns=["row_id"])["row_id"].to_numpy()
    ahead = pq.read_table(root / "candidates", columns=["row_id"])["row_id"].to_numpy()
    assert len(np.unique(np.concatenate([ids, ahead]))) == len(ids) + len(ahead)


def _date(path):
    return np.datetime64(path.stem).astype(object)


def test_ages_count_from_the_launch_and_open_ended_campaigns_have_no_end(files):
    root = files[0]
    table = pq.read_table(root / "delivery")
    day, launched = (table[k].cast(pa.int32()).to_numpy() for k in ("day", "launched"))
    assert (launched <= day).all()
    assert (launched < day.min()).any()
    assert table["planned_end"].null_count > 0
    truth = pq.read_table(root / "oracle" / "hazards")
    key = {(c, a): True for c, a in zip(truth["creative"], truth["age"], strict=True)}
    assert len(key) == len(truth)
    active = table["status"].to_numpy() == "active"
    age = np.sort((day - launched + 1)[active])
    np.testing.assert_array_equal(age, np.sort(truth["age"].to_numpy()))


def test_written_truth_gives_the_written_hazards(files):
    root = files[0]
    truth = AdTruth.read(root)
    table = pq.read_table(root / "oracle" / "hazards" / "2026-03-03.parquet")
    today = hazard_path(truth, AtRisk.of(table), 1).hazard[:, :, 0]
    for q, cause in enumerate(CAUSES):
        np.testing.assert_array_equal(today[:, q], table[f"hazard_{cause}"].to_numpy())


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_ones(tmp_path):
    roots = [tmp_path / name for name in "abc"]
    for root, seed in zip(roots, (7, 7, 8), strict=True):
        write_world(root, WorldConfig(**SMALL | {"num_days": 2}, rows_per_day=100, seed=seed))
    names = sorted(path.relative_to(roots[0]) for path in roots[0].rglob("*.parquet"))
    for name in names:
        a, b, c = ((root / name).read_bytes() for root in roots)
        assert a == b != c, name


def test_days_without_creatives_are_empty_files(tmp_path):
    config = WorldConfig(num_creatives=1, num_days=60, days_before=0, num_users=2, seed=1)
    assert min(len(day.creative) for day in simulate(make_world(config), config)) == 0
    few = config.model_copy(update={"num_days": 3})
    assert write_world(tmp_path, few) == len(pq.read_table(tmp_path / "impressions"))


def test_the_command_counts_the_rows_it_wrote(tmp_path):
    few = SMALL | {"num_creatives": 60}
    sizes = [part for k, v in few.items() for part in ("--set", f"{k}={v}")]
    result = CliRunner().invoke(app, ["simulate", "ads", "--out", str(tmp_path), "--json", *sizes])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    rows = pq.read_table(tmp_path / "impressions").num_rows
    assert rows < 4 * 20_000
    assert answer["rows"] == rows
