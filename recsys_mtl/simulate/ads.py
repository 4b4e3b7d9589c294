"""Ads with known truth: creatives whose operator stops them early, or late, or never.

Advertisers run campaigns, campaigns show creatives, and every delivered day ends with the
operator's decision (`ads_hazards.py`). Creatives are seen until they are stopped, their campaign
ends or runs out of budget, or the log ends. Those launched before the log's first day appear in it
only if still alive: late entry. What the operator reacts to shows in the logs as noisy traces:

    title words  w ~ softmax of a_w q + .3 b_w f      ten different ones of 200
    image        M (.5 q, f) + noise                  eight numbers
    clicks       p = r x activity x gender match x taste x hour, every factor of mean one

r is the click rate behind the stops, so impressions and deliveries tell of the same quality.
Truth goes to `oracle/`, which only evaluation reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import make_dir, write_table
from recsys_mtl.simulate.ads_hazards import CAUSES, AdTruth, AtRisk
from recsys_mtl.simulate.ads_world import (
    GENDERS,
    NEVER,
    TARGET_CTR,
    Campaigns,
    World,
    WorldConfig,
    make_world,
)

STATUSES = ("active", "paused", "ended", "budget")
_ACTIVE, _PAUSED, _ENDED, _BUDGET = range(len(STATUSES))
_NUM_WORDS, _TITLE_WORDS, _WORD_LEAN = 200, 10, (1, 0.3)
_IMAGE_DIM, _IMAGE_LEAN, _IMAGE_NOISE_SD = 8, (0.5, 1), 0.3
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000
_IMPRESSIONS_PER_CANDIDATE = 4


@dataclass(frozen=True, slots=True)
class Delivered:
    """What n creatives delivered on a day."""

    day: int
    """From the log's first, which is 0."""
    creative: np.ndarray
    """int64[n], ascending."""
    impressions: np.ndarray
    """int64[n]"""
    ctr: np.ndarray
    """float64[n], true click rate."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Impressions written one by one: N rows by time."""

    user: np.ndarray
    creative: np.ndarray
    time: np.ndarray
    """int64[N], microseconds UTC."""
    p_click: np.ndarray
    is_click: np.ndarray


@dataclass(frozen=True, slots=True)
class DayLog:
    """One day of the log: m creatives are in it, n <= m of them deliver."""

    creative: np.ndarray
    """int64[m], ascending."""
    status: np.ndarray
    """int64[m], index of `STATUSES`."""
    totals: dict[str, np.ndarray]
    """impressions, clicks, conversions int64[m], spend float64[m], stopped bool[m]."""
    ads: AtRisk
    """n entries."""
    ctr: np.ndarray
    hazard: np.ndarray
    """float64[n, 2]"""
    impressions: Sample
    candidates: Sample


def simulate(world: World, config: WorldConfig) -> Iterator[DayLog]:
    """Live through the days before the log, then give those of the log in order."""
    truth, campaigns, num_ads = world.truth, world.campaigns, config.num_creatives
    alive = world.launch < campaigns.close[world.campaign]
    delivered, week_sum = np.zeros((2, num_ads))
    week_days = np.zeros(num_ads, np.int64)
    for day in range(-config.days_before, config.num_days):
        rng = config.rng(2, day)
        here = np.flatnonzero(alive & (world.launch <= day))
        status = _status(campaigns, world.campaign[here], day)
        run = here[status == _ACTIVE]
        age = day - world.launch[run] + 1
        ads = AtRisk(run, age, delivered[run], week_sum[run], week_days[run])
        ctr = truth.ctr(ads)
        hazard = truth.hazards(ads, ctr)
        # Noise of mean one.
        noise = np.exp(rng.normal(-0.08, 0.4, len(run)))
        impressions = 1 + rng.poisson(truth.delivery(ads, ctr) * noise)
        stopped = rng.random(len(run)) < hazard.sum(1)
        after = ads.tomorrow(ctr, impressions)
        delivered[run], week_sum[run] = after.impressions, after.week_sum
        week_days[run] = after.week_days
        alive[run[stopped]] = False
        alive[here[status >= _ENDED]] = False
        if day < 0:
            continue
        today = Delivered(day, run, impressions, ctr)
        rows = _sample(world, config, today, config.rows_per_day, 3)
        ahead = _sample(
            world, config, today, -(-config.rows_per_day // _IMPRESSIONS_PER_CANDIDATE), 4
        )
        totals = _totals(world, today, rows, rng) | {"stopped": stopped}
        spread = {name: _spread(values, status == _ACTIVE) for name, values in totals.items()}
        yield DayLog(here, status, spread, ads, ctr, hazard, rows, ahead)


def _status(campaigns: Campaigns, campaign: np.ndarray, day: int) -> np.ndarray:
    """What the campaigns let their creatives do, int64[m]; a closed one is reported once."""
    close = campaigns.close[campaign]
    is_paused = (campaigns.pause_from[campaign] <= day) & (day < campaigns.pause_to[campaign])
    closed = np.where(close > campaigns.planned_end[campaign], _ENDED, _BUDGET)
    status: np.ndarray = np.where(close <= day, closed, np.where(is_paused, _PAUSED, _ACTIVE))
    return status


def _sample(
    world: World, config: WorldConfig, today: Delivered, num_rows: int, stream: int
) -> Sample:
    """Rows of the day's impressions, drawn without replacement."""
    rng = config.rng(stream, today.day)
    num_rows = min(num_rows, int(today.impressions.sum()))
    drawn = rng.multivariate_hypergeometric(today.impressions, num_rows, method="marginals")
    at = rng.permutation(np.repeat(np.arange(len(drawn)), drawn))
    start = (config.epoch_day + today.day) * _DAY_US
    time = start + np.sort(rng.integers(0, _DAY_US, num_rows))
    user = rng.integers(0, config.num_users, num_rows)
    effect = world.user_effect(user, today.creative[at], _hour(time))
    p = np.minimum(today.ctr[at] * effect, 0.99)
    return Sample(user, today.creative[at], time, p, rng.random(num_rows) < p)


def _hour(time_us: np.ndarray) -> np.ndarray:
    hour: np.ndarray = time_us // _HOUR_US % 24
    return hour


def _totals(
    world: World, today: Delivered, rows: Sample, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Counts of the delivering creatives; the rows written one by one are among them."""
    run = today.creative
    at = np.searchsorted(run, rows.creative)
    others = today.impressions - np.bincount(at, minlength=len(run))
    clicks = rng.binomial(others, np.minimum(today.ctr, 0.99))
    clicks += np.bincount(at[rows.is_click], minlength=len(run))
    return {
        "impressions": today.impressions,
        "clicks": clicks,
        "conversions": rng.binomial(clicks, np.minimum(world.conversion_rate[run], 1)),
        "spend": np.round(clicks * world.cost_per_click[run], 2),
    }


def _spread(values: np.ndarray, is_active: np.ndarray) -> np.ndarray:
    """Values of the active rows among all, 0 elsewhere."""
    spread = np.zeros(len(is_active), values.dtype)
    spread[is_active] = values
    return spread


def _titles(world: World, rng: np.random.Generator) -> pa.Array:
    """Different words per creative, list<string>[A], drawn by Gumbel noise."""
    lean = rng.normal(size=(_NUM_WORDS, 2)) * _WORD_LEAN
    latent = np.stack([world.truth.quality, world.truth.fatigue], axis=1)
    score = latent @ lean.T + rng.gumbel(size=(len(latent), _NUM_WORDS))
    words = np.argpartition(-score, _TITLE_WORDS, axis=1)[:, :_TITLE_WORDS]
    names = pa.array([f"word-{w}" for w in range(_NUM_WORDS)])
    offsets = pa.array(np.arange(len(words) + 1) * _TITLE_WORDS, pa.int32())
    return pa.ListArray.from_arrays(offsets, names.take(pa.array(words.ravel())))


def _creatives(world: World, config: WorldConfig) -> pa.Table:
    """Side table of the creatives: target, title and image, traces of what they are."""
    rng = config.rng(5)
    titles = _titles(world, rng)
    latent = np.stack([world.truth.quality, world.truth.fatigue], axis=1)
    mix, _ = np.linalg.qr(rng.normal(size=(_IMAGE_DIM, 2)))
    noise = _IMAGE_NOISE_SD * rng.normal(size=(len(latent), _IMAGE_DIM))
    image = latent * _IMAGE_LEAN @ mix.T + noise
    columns = {
        "creative": np.arange(config.num_creatives),
        "target_gender": pa.array(GENDERS).take(pa.array(world.target_gender)),
        "title": titles,
    }
    return pa.table(columns | {f"image_{k}": image[:, k] for k in range(_IMAGE_DIM)})


def _users(world: World) -> pa.Table:
    return pa.table(
        {
            "user": np.arange(len(world.gender)),
            "gender": pa.array(GENDERS).take(pa.array(world.gender)),
            "interest": pa.array(tuple(TARGET_CTR)).take(pa.array(world.taste)),
        }
    )


def _truth_table(truth: AdTruth) -> pa.Table:
    return pa.table({"creative": np.arange(len(truth.quality))} | truth.columns())


def _ids(world: World, creative: np.ndarray) -> dict[str, pa.Array]:
    campaign = world.campaign[creative]
    genre = pa.array(world.campaigns.genre[campaign])
    return {
        "creative": pa.array(creative),
        "campaign": pa.array(campaign),
        "advertiser": pa.array(world.campaigns.advertiser[campaign]),
        "genre": pa.array(tuple(TARGET_CTR)).take(genre),
    }


def _dates(days: np.ndarray, config: WorldConfig) -> pa.Array:
    """Calendar days, date32; null for `NEVER`."""
    since_1970 = (config.epoch_day + days).astype(np.int32)
    return pa.array(since_1970, mask=days == NEVER).cast(pa.date32())


def _delivery(world: World, config: WorldConfig, log: DayLog, day: int) -> pa.Table:
    campaign = world.campaign[log.creative]
    return pa.table(
        _ids(world, log.creative)
        | {"day": _dates(np.full(len(campaign), day), config)}
        | log.totals
        | {
            "status": pa.array(STATUSES).take(pa.array(log.status)),
            "planned_end": _dates(world.campaigns.planned_end[campaign], config),
            "launched": _dates(world.launch[log.creative], config),
        }
    )


def _rows(world: World, sample: Sample, first_id: int) -> dict[str, pa.Array]:
    return {
        "row_id": pa.array(first_id + np.arange(len(sample.user))),
        "user": pa.array(sample.user),
        **_ids(world, sample.creative),
        "time": pa.array(sample.time, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "hour": pa.array(_hour(sample.time).astype(np.int8)),
    }


def _day_tables(world: World, config: WorldConfig, log: DayLog, day: int) -> dict[str, pa.Table]:
    first_id = day * config.rows_per_day
    rows = _rows(world, log.impressions, first_id)
    truth = {"ctr": log.ctr} | {f"hazard_{c}": log.hazard[:, q] for q, c in enumerate(CAUSES)}
    return {
        "delivery": _delivery(world, config, log, day),
        "impressions": pa.table(rows | {"is_click": log.impressions.is_click.astype(np.int8)}),
        "candidates": pa.table(_rows(world, log.candidates, 10**9 + first_id)),
        "oracle/clicks": pa.table({"row_id": rows["row_id"], "p_click": log.impressions.p_click}),
        "oracle/hazards": pa.table(log.ads.columns() | truth),
    }


def write_world(root: Path, config: WorldConfig) -> int:
    """Write the world's raw logs as a real system would.

    Files: `creatives.parquet` and `users.parquet`; `<log>/<YYYY-MM-DD>.parquet` for the logs
    delivery (one row per creative and day until it is stopped, or until the first day after its
    campaign closed), impressions and candidates; and the truth: `oracle/clicks/<day>.parquet`
    (`p_click` by row_id), `oracle/hazards/<day>.parquet` (delivering creatives as the day found
    them, their click rate and hazards), `oracle/creatives.parquet` (latent state).

    Returns:
        Rows of the impressions log.
    """
    world = make_world(config)
    make_dir(root / "oracle")
    write_table(root / "creatives.parquet", _creatives(world, config))
    write_table(root / "users.parquet", _users(world))
    write_table(root / "oracle" / "creatives.parquet", _truth_table(world.truth))
    num_rows = 0
    for day, log in enumerate(simulate(world, config)):
        name = f"{config.first_day + timedelta(days=day)}.parquet"
        for folder, table in _day_tables(world, config, log, day).items():
            write_table(make_dir(root / folder) / name, table)
        num_rows += len(log.impressions.user)
    return num_rows
