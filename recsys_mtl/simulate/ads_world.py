"""Plans and latent truth of the simulated ads world: campaigns, creatives, users.

Starts, lengths, budgets and pauses of campaigns are drawn apart from everything else, so that
they censor independently of quality and fatigue. Of the variance of a creative's quality, .3 is
its advertiser's.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from recsys_mtl.simulate.ads_hazards import AdTruth
from recsys_mtl.spec.base import Strict

TARGET_CTR = {
    "beauty": 0.012,
    "finance": 0.006,
    "food": 0.020,
    "games": 0.030,
    "health": 0.010,
    "jobs": 0.008,
    "shopping": 0.025,
    "travel": 0.015,
}
GENDERS = ("all", "female", "male")
_CREATIVES_PER_CAMPAIGN, _CAMPAIGNS_PER_ADVERTISER = 10, 4
_OPEN_ENDED_SHARE, _BUDGET_SHARE, _PAUSE_SHARE = 0.15, 0.2, 0.25
_ADVERTISER_VARIANCE = 0.3
_GENDER_MATCH, _TASTE_MATCH = 1.3, 1.7
NEVER = 1_000_000
_LAUNCH_DAYS = 30


class WorldConfig(Strict):
    """Size of the world; the defaults are the demo's."""

    num_creatives: PositiveInt = 4_500
    """Planned ones; some are stopped before the log starts, or launched after it ends."""
    num_users: PositiveInt = 5_000
    num_days: PositiveInt = 60
    days_before: NonNegativeInt = 40
    """Days on which campaigns were started before the log starts."""
    rows_per_day: PositiveInt = 20_000
    """Impressions written one by one: a sample of the delivered ones, all where there are fewer."""
    first_day: date = date(2026, 3, 1)
    seed: int = 7

    def rng(self, stream: int, day: int = 0) -> np.random.Generator:
        """An independent generator for each part of the world and each day."""
        return np.random.default_rng([self.seed, stream, day + self.days_before])

    @property
    def epoch_day(self) -> int:
        """Days from 1970-01-01 to the log's first day."""
        return (self.first_day - date(1970, 1, 1)).days


@dataclass(frozen=True, slots=True)
class Campaigns:
    """C campaigns, int64[C] each; days count from the log's first, which is 0."""

    advertiser: np.ndarray
    genre: np.ndarray
    start: np.ndarray
    planned_end: np.ndarray
    """Last planned day; `NEVER` for campaigns without one."""
    close: np.ndarray
    """First day without delivery: after the planned end, or earlier for want of budget."""
    pause_from: np.ndarray
    pause_to: np.ndarray
    """First day after the pause; equal to `pause_from` where there is none."""


@dataclass(frozen=True, slots=True)
class World:
    """Latent truth and plans: A creatives, U users."""

    campaigns: Campaigns
    campaign: np.ndarray
    """int64[A]"""
    launch: np.ndarray
    """int64[A]"""
    target_gender: np.ndarray
    """int64[A], index of `GENDERS`."""
    truth: AdTruth
    conversion_rate: np.ndarray
    cost_per_click: np.ndarray
    activity: np.ndarray
    """float64[U], of mean one."""
    gender: np.ndarray
    """int64[U], 1 or 2."""
    taste: np.ndarray
    """int64[U], favourite genre."""

    def user_effect(self, user: np.ndarray, creative: np.ndarray, hour: np.ndarray) -> np.ndarray:
        """Click probability of a row over the creative's click rate of the day, float64[N]."""
        wanted = self.target_gender[creative]
        match = np.where(wanted == self.gender[user], _GENDER_MATCH, 2 - _GENDER_MATCH)
        num_genres = len(TARGET_CTR)
        likes = self.taste[user] == self.campaigns.genre[self.campaign[creative]]
        rest = (num_genres - _TASTE_MATCH) / (num_genres - 1)
        effect: np.ndarray = (
            self.activity[user]
            * np.where(wanted == 0, 1, match)
            * np.where(likes, _TASTE_MATCH, rest)
            * (1 + 0.2 * np.sin(hour / 24 * 2 * np.pi))
        )
        return effect


def make_world(config: WorldConfig) -> World:
    """Draw campaigns, creatives and users."""
    campaigns = _make_campaigns(config)
    num_ads, rng = config.num_creatives, config.rng(1)
    campaign = np.sort(rng.integers(0, len(campaigns.start), num_ads))
    advertiser = campaigns.advertiser[campaign]
    num_advertisers = int(campaigns.advertiser.max()) + 1
    of_advertiser = rng.normal(size=(2, num_advertisers))[:, advertiser]
    shares = np.sqrt([_ADVERTISER_VARIANCE, 1 - _ADVERTISER_VARIANCE])
    buying = rng.normal(5.3, 0.8, len(campaigns.start))[campaign]
    truth = AdTruth(
        quality=shares[0] * of_advertiser[0] + shares[1] * rng.normal(size=num_ads),
        fatigue=rng.normal(size=num_ads),
        target=np.asarray(list(TARGET_CTR.values()))[campaigns.genre[campaign]],
        strictness=0.3 * of_advertiser[1],
        level=np.exp(buying + rng.normal(0, 0.5, num_ads)),
    )
    activity = np.exp(rng.normal(0, 0.3, config.num_users))
    return World(
        campaigns=campaigns,
        campaign=campaign,
        launch=_launch_days(campaigns, campaign, rng),
        target_gender=rng.integers(0, len(GENDERS), num_ads),
        truth=truth,
        conversion_rate=0.05 * np.exp(rng.normal(0, 0.5, num_ads)),
        cost_per_click=np.exp(rng.normal(-1, 0.4, len(campaigns.start)))[campaign],
        activity=activity / activity.mean(),
        gender=1 + rng.permutation(config.num_users) % 2,
        taste=rng.permutation(config.num_users) % len(TARGET_CTR),
    )


def _make_campaigns(config: WorldConfig) -> Campaigns:
    rng = config.rng(0)
    count = -(-config.num_creatives // _CREATIVES_PER_CAMPAIGN)
    start = rng.integers(-config.days_before, config.num_days, count)
    length = np.clip(np.exp(rng.normal(3.7, 0.6, count)), 7, 180).astype(np.int64)
    planned_end = np.where(rng.random(count) < _OPEN_ENDED_SHARE, NEVER, start + length - 1)
    runs_out = rng.random(count) < _BUDGET_SHARE
    out_of_budget = start + np.ceil(length * rng.uniform(0.3, 0.9, count)).astype(np.int64)
    pause_from = start + 1 + (rng.random(count) * length).astype(np.int64)
    pauses = rng.random(count) < _PAUSE_SHARE
    return Campaigns(
        advertiser=rng.integers(0, -(-count // _CAMPAIGNS_PER_ADVERTISER), count),
        genre=rng.integers(0, len(TARGET_CTR), count),
        start=start,
        planned_end=planned_end,
        close=np.where(runs_out, out_of_budget, planned_end + 1),
        pause_from=pause_from,
        pause_to=pause_from + pauses * rng.integers(2, 7, count),
    )


def _launch_days(
    campaigns: Campaigns, campaign: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Launches in a campaign's first month, most of them early and none during its pause."""
    start, close = campaigns.start[campaign], campaigns.close[campaign]
    room = np.minimum(close - start, _LAUNCH_DAYS)
    launch = start + (rng.random(len(campaign)) ** 2 * room).astype(np.int64)
    pause_from, pause_to = campaigns.pause_from[campaign], campaigns.pause_to[campaign]
    days: np.ndarray = np.where((pause_from <= launch) & (launch < pause_to), pause_to, launch)
    return days
