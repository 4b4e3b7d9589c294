"""A short-video feed with known truth: users, videos, behaviour, and a funnel of five outcomes.

Latent factors of user u and video v meet in one affinity per outcome,

    a_t(u, v) = sum_k m_tk theta_uk phi_vk          theta, phi ~ N(0, 1), sum_k m_tk^2 = 1

and every outcome is a Bernoulli step given its parent,

    logit c_t = bias_t + s_t a_t + popularity_v + activity_u + hour effect
    p_t = c_t p_parent(t)                           end to end, known for every row

so that no model without user x video interactions can reach the oracle. The
factors are not written; side tables hold noisy traces of them. Truth goes to
`oracle/`, which no pipeline reads.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.simulate.planted import draw_labels, end_to_end
from recsys_mtl.spec.base import Strict

OUTCOMES = ("click", "long_view", "like", "follow", "purchase")
PARENTS = {"long_view": "click", "like": "long_view", "follow": "long_view", "purchase": "click"}
BIAS = {"click": -0.55, "long_view": 0.1, "like": -0.9, "follow": -2.0, "purchase": -2.6}
STRENGTH = {"click": 0.9, "long_view": 0.4, "like": 0.4, "follow": 0.4, "purchase": 0.4}
# How much of each latent factor an outcome listens to: overlapping, not equal.
MIX = {
    "click": (0.9, 0.45),
    "long_view": (0.8, 0.6),
    "like": (0.7, 0.7),
    "follow": (0.8, 0.6),
    "purchase": (0.9, 0.3),
}
BEHAVIOURS = ("click", "like")
_NUM_FACTORS = 2
_MAIN_EFFECT_SD = 0.6
_TRACE_NOISE_SD = 0.5
_DAY_US = 86_400_000_000


class WorldConfig(Strict):
    """Size of the world; the defaults are the demo's."""

    num_users: PositiveInt = 2_000
    num_videos: PositiveInt = 300
    num_days: PositiveInt = 10
    rows_per_day: PositiveInt = 50_000
    first_day: date = date(2026, 3, 1)
    seed: int = 7


@dataclass(frozen=True, slots=True)
class World:
    """Latent truth. theta, phi: float64[U or V, K]; activity, popularity: float64[U or V]."""

    theta: np.ndarray
    phi: np.ndarray
    activity: np.ndarray
    popularity: np.ndarray
    duration_s: np.ndarray

    def step_rates(
        self, user: np.ndarray, video: np.ndarray, hour: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Conditional rate c_t of each outcome given its parent, float64[N]."""
        common = self.popularity[video] + self.activity[user] + 0.25 * np.sin(hour / 24 * 2 * np.pi)
        product = self.theta[user] * self.phi[video]
        rates = {}
        for outcome in OUTCOMES:
            mix = np.asarray(MIX[outcome])
            affinity = product @ (mix / np.linalg.norm(mix))
            logit = BIAS[outcome] + STRENGTH[outcome] * affinity + common
            rates[outcome] = 1 / (1 + np.exp(-logit))
        return rates


def make_world(config: WorldConfig) -> World:
    """Draw the latent truth of a world."""
    rng = np.random.default_rng([config.seed, 0])
    return World(
        theta=rng.normal(size=(config.num_users, _NUM_FACTORS)),
        phi=rng.normal(size=(config.num_videos, _NUM_FACTORS)),
        activity=_MAIN_EFFECT_SD * rng.normal(size=config.num_users),
        popularity=_MAIN_EFFECT_SD * rng.normal(size=config.num_videos),
        duration_s=np.round(np.exp(rng.normal(3.0, 0.7, config.num_videos)), 1),
    )


def _side_tables(world: World, config: WorldConfig) -> dict[str, pa.Table]:
    rng = np.random.default_rng([config.seed, 1])
    taste = world.theta + _TRACE_NOISE_SD * rng.normal(size=world.theta.shape)
    topic = world.phi + _TRACE_NOISE_SD * rng.normal(size=world.phi.shape)
    age = rng.integers(18, 70, config.num_users).astype(np.float64)
    age[rng.random(config.num_users) < 0.03] = np.nan
    users = pa.table(
        {
            "user_id": np.arange(config.num_users),
            "interest": [f"interest-{k}{'+-'[s]}" for k, s in _strongest(taste)],
            "age": pa.array(age, from_pandas=True),
        }
    )
    videos = pa.table(
        {
            "video_id": np.arange(config.num_videos),
            "topic": [f"topic-{k}{'+-'[s]}" for k, s in _strongest(topic)],
            "duration_s": world.duration_s,
        }
    )
    return {"users.parquet": users, "videos.parquet": videos}


def _strongest(factors: np.ndarray) -> list[tuple[int, int]]:
    """Index and sign of the largest factor of each row."""
    k = np.abs(factors).argmax(1)
    negative = factors[np.arange(len(k)), k] < 0
    return list(zip(k.tolist(), negative.astype(int).tolist(), strict=True))


def _draw_rows(world: World, config: WorldConfig, day: int, count: int) -> dict[str, np.ndarray]:
    """Users, videos and times of one day's rows, sorted by time."""
    rng = np.random.default_rng([config.seed, 2, day, count])
    appeal = np.exp(world.popularity)
    start = (config.first_day - date(1970, 1, 1)).days + day
    return {
        "user_id": rng.integers(0, config.num_users, count),
        "video_id": rng.choice(config.num_videos, count, p=appeal / appeal.sum()),
        "time": start * _DAY_US + np.sort(rng.integers(0, _DAY_US, count)),
    }


def _hour(time_us: np.ndarray) -> np.ndarray:
    return time_us // 3_600_000_000 % 24


def _timestamps(time_us: np.ndarray) -> pa.Array:
    return pa.array(time_us, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _day_tables(world: World, config: WorldConfig, day: int) -> dict[str, pa.Table]:
    rows = _draw_rows(world, config, day, config.rows_per_day)
    hour = _hour(rows["time"])
    rates = world.step_rates(rows["user_id"], rows["video_id"], hour)
    y = draw_labels(rates, PARENTS, np.random.default_rng([config.seed, 3, day]))
    row_id = day * config.rows_per_day + np.arange(config.rows_per_day)
    columns = {
        "user_id": rows["user_id"],
        "video_id": rows["video_id"],
        "time": _timestamps(rows["time"]),
        "hour": hour.astype(np.int8),
    }
    labels = {f"is_{t}": y[t].astype(np.int8) for t in OUTCOMES}
    truth = {f"p_{t}": p for t, p in end_to_end(rates, PARENTS).items()}
    # An event is known only after the video was watched, half a minute here.
    events = [
        pa.table(
            {
                "user_id": rows["user_id"][y[b]],
                "video_id": rows["video_id"][y[b]],
                "time": _timestamps(rows["time"][y[b]] + 30_000_000),
                "action": [b] * int(y[b].sum()),
            }
        )
        for b in BEHAVIOURS
    ]
    ahead = _draw_rows(world, config, day, config.rows_per_day // 4)
    return {
        "impressions": pa.table({"impression_id": row_id, **columns, **labels}),
        "behaviour": pa.concat_tables(events).sort_by([("time", "ascending")]),
        "candidates": pa.table(
            {
                "impression_id": 10**9 + row_id[: len(ahead["time"])],
                "user_id": ahead["user_id"],
                "video_id": ahead["video_id"],
                "time": _timestamps(ahead["time"]),
                "hour": _hour(ahead["time"]).astype(np.int8),
            }
        ),
        "oracle": pa.table({"impression_id": row_id, **truth}),
    }


def write_world(root: Path, config: WorldConfig) -> World:
    """Write the world's raw logs as a real system would: side tables and one file per day and log.

    Files: `users.parquet`, `videos.parquet`, and `<log>/<YYYY-MM-DD>.parquet` for the logs
    impressions, behaviour, candidates and oracle (`p_<outcome>` by impression_id).
    """
    world = make_world(config)
    for log in ("impressions", "behaviour", "candidates", "oracle"):
        (root / log).mkdir(parents=True, exist_ok=True)
    for name, table in _side_tables(world, config).items():
        write_table(root / name, table)
    for day in range(config.num_days):
        name = f"{config.first_day + timedelta(days=day)}.parquet"
        for log, table in _day_tables(world, config, day).items():
            write_table(root / log / name, table)
    return world
