"""A feed whose tasks want different things: a world in which one representation cannot serve all.

Six tasks in two categories. Each reads one of three behaviour histories, and every history is
read by one task of each category, which want opposite things of it:

    q(u, v, hour) = sum over id fields f of A_f[id_f] / sqrt(F)   what the ids say, cov I
    I_m(u, time)  = mean of A_item over u's newest 10 items in history m, mean square 1
    signal_t      = s [ sqrt(1 - k) f_t(w_t . q) + sqrt(k) w_t . (I_m(t) * A_item[v]) ]
    c_t           = sigmoid(b_t + signal_t),  p_t = c_t p_parent(t)

with directions w_t that correlate `inside` a category and `across` categories, f_t and b_t of
`planted.py`, s = 2 and k = .6. Interests drift from day to day (order-one autoregression, .6 a
day) and show only in the items of their own history, so that a user's id cannot stand for them. The
truth is a function of logged ids and times alone: nothing hidden keeps a model from the oracle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from pydantic import Field, PositiveInt, model_validator

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.simulate import planted
from recsys_mtl.spec.base import Strict


@dataclass(frozen=True, slots=True)
class Task:
    """What a task listens to, and how often it happens."""

    name: str
    history: str
    """The behaviour whose newest items matter to it."""
    degree: int
    """Of the polynomial over what the ids say."""
    base_rate: float
    """End to end."""
    parent: str | None = None
    missing: float = 0.0
    """Share of rows whose label is unknown."""


CATEGORIES = {
    "watch": (
        Task("click", "click", 1, 0.3),
        Task("long_view", "like", 2, 0.16),
        Task("finish", "buy", 3, 0.06, parent="long_view"),
    ),
    "act": (
        Task("share", "click", 3, 0.08, missing=0.3),
        Task("like", "like", 1, 0.1),
        Task("buy", "buy", 2, 0.02),
    ),
}
TASKS = tuple(task for tasks in CATEGORIES.values() for task in tasks)
PARENTS = {task.name: task.parent for task in TASKS if task.parent is not None}
BEHAVIOURS = ("click", "like", "buy")
HISTORY_LENGTH = 10
NUM_FACTORS = 6
STRENGTH = 2.0
INTEREST_SHARE = 0.6
USER_FIELDS = {"segment": 30, "region": 30}
_PERSISTENCE = 0.6
_SHARPNESS = 1.0
_WARM_UP_DAYS = 3
_EVENTS_PER_DAY = 5
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000


class WorldConfig(Strict):
    """Size of the world, and how strongly its tasks agree and conflict."""

    num_users: PositiveInt = 1_500
    num_items: int = Field(300, gt=NUM_FACTORS)
    num_days: PositiveInt = 10
    rows_per_day: PositiveInt = 18_000
    first_day: date = date(2026, 3, 1)
    inside: float = 0.6
    across: float = -0.5
    seed: int = 7

    @model_validator(mode="after")
    def _directions_exist(self) -> Self:
        self.correlation()
        return self

    def correlation(self) -> np.ndarray:
        """float64[T, T] of the task directions, in the order of `TASKS`."""
        return planted.block_correlation(
            len(CATEGORIES), len(TASKS) // len(CATEGORIES), self.inside, self.across
        )

    def rng(self, stream: int) -> np.random.Generator:
        """An independent generator for each part of the world."""
        return np.random.default_rng([self.seed, stream])


@dataclass(frozen=True, slots=True)
class Rows:
    """Impressions by time: int64[N] each; times in microseconds UTC."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray

    @property
    def hour(self) -> np.ndarray:
        """Hour of the day, UTC."""
        hour: np.ndarray = self.time // _HOUR_US % 24
        return hour


@dataclass(frozen=True, slots=True)
class World:
    """Latent truth."""

    directions: np.ndarray
    """W float64[T, D]"""
    tables: dict[str, np.ndarray]
    """A_f of segment, region, item and hour, float64[ids, D]."""
    users: dict[str, np.ndarray]
    """Segment and region of every user, int64[U]."""
    logs: dict[str, Rows]
    """Behaviour to its events by (user, time)."""

    def id_factors(self, rows: Rows) -> np.ndarray:
        """q, float64[N, D]."""
        ids = {name: of_user[rows.user] for name, of_user in self.users.items()}
        ids |= {"item": rows.item, "hour": rows.hour}
        total = sum(table[ids[field]] for field, table in self.tables.items())
        factors: np.ndarray = total / np.sqrt(len(self.tables))
        return factors

    def interests(self, behaviour: str, rows: Rows) -> np.ndarray:
        """I_m of the rows' users at the rows' times, float64[N, D]; 0 without events."""
        log, factors = self.logs[behaviour], self.tables["item"]
        scale = np.sqrt(np.mean(_newest_mean(log, factors, log) ** 2))
        interests: np.ndarray = _newest_mean(log, factors, rows) / scale
        return interests

    def affinities(self, rows: Rows) -> dict[str, np.ndarray]:
        """I_m * A_item[v] by behaviour m, float64[N, D]: what its history says of the item."""
        return {m: self.interests(m, rows) * self.tables["item"][rows.item] for m in BEHAVIOURS}

    def signals(self, rows: Rows) -> dict[str, np.ndarray]:
        """Logits without their biases, float64[N] by task."""
        z = self.id_factors(rows) @ self.directions.T
        affinities = self.affinities(rows)
        return {
            task.name: mixed(
                planted.response(z[:, t], task.degree),
                affinities[task.history] @ self.directions[t],
            )
            for t, task in enumerate(TASKS)
        }


def mixed(of_ids: np.ndarray, of_history: np.ndarray) -> np.ndarray:
    """Logit s [ sqrt(1 - k) of_ids + sqrt(k) of_history ], float64[N]."""
    share = np.sqrt([1 - INTEREST_SHARE, INTEREST_SHARE])
    logit: np.ndarray = STRENGTH * (share[0] * of_ids + share[1] * of_history)
    return logit


def _newest_mean(log: Rows, factors: np.ndarray, rows: Rows) -> np.ndarray:
    """Mean factors of the users' newest events strictly before the rows' times, float64[N, D]."""
    first, last = log.time.min(), max(log.time.max(), rows.time.max())
    span = last - first + 1
    keys = log.user * span + (log.time - first)
    end = np.searchsorted(keys, rows.user * span + (rows.time - first))
    start = np.maximum(end - HISTORY_LENGTH, np.searchsorted(keys, rows.user * span))
    total = np.cumsum(np.concatenate([np.zeros((1, NUM_FACTORS)), factors[log.item]]), axis=0)
    mean: np.ndarray = (total[end] - total[start]) / np.maximum(end - start, 1)[:, None]
    return mean


def make_world(config: WorldConfig) -> World:
    """Draw the latent truth and the behaviour logs."""
    rng = config.rng(0)
    sizes = {**USER_FIELDS, "item": config.num_items, "hour": 24}
    directions = planted.task_directions(config.correlation(), NUM_FACTORS, rng)
    tables = {f: planted.factor_table(size, NUM_FACTORS, rng) for f, size in sizes.items()}
    user = np.arange(config.num_users)
    users = {f: rng.permutation(user % size) for f, size in USER_FIELDS.items()}
    logs = {m: _draw_log(config, tables["item"], 1 + i) for i, m in enumerate(BEHAVIOURS)}
    return World(directions, tables, users, logs)


def _draw_log(config: WorldConfig, factors: np.ndarray, stream: int) -> Rows:
    """Events of one behaviour: items near a latent interest that drifts from day to day."""
    rng = config.rng(stream)
    num_days, size = config.num_days + _WARM_UP_DAYS, (config.num_users, _EVENTS_PER_DAY)
    latent = rng.normal(size=(config.num_users, NUM_FACTORS))
    items = np.empty((num_days, *size), np.int64)
    for day in range(num_days):
        items[day] = _choose(latent @ factors.T * _SHARPNESS, rng)
        drift = np.sqrt(1 - _PERSISTENCE**2) * rng.normal(size=latent.shape)
        latent = _PERSISTENCE * latent + drift
    time = _times(config, -_WARM_UP_DAYS, (num_days, *size), rng)
    user = np.broadcast_to(np.arange(config.num_users)[:, None], items.shape)
    order = np.lexsort((time.ravel(), user.ravel()))
    return Rows(*(part.ravel()[order] for part in (user, items, time)))


def _choose(logit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Items int64[U, events], drawn from the softmax of float64[U, V]."""
    weight = np.exp(logit - logit.max(1, keepdims=True))
    reach = np.cumsum(weight, axis=1)
    point = rng.random((len(logit), _EVENTS_PER_DAY)) * reach[:, -1:]
    chosen = (point[:, :, None] >= reach[:, None]).sum(2)
    items: np.ndarray = np.minimum(chosen, logit.shape[1] - 1)
    return items


def _times(
    config: WorldConfig, first: int, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Times int64[days, ...] anywhere in their day, from `first` days after `first_day` on."""
    start = (config.first_day - date(1970, 1, 1)).days + first
    day = start + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    times: np.ndarray = day * _DAY_US + rng.integers(0, _DAY_US, shape)
    return times


def draw_rows(config: WorldConfig, rows_per_day: int, stream: int) -> Rows:
    """Impressions of all days, `rows_per_day` each: any user, item and moment alike."""
    rng = config.rng(stream)
    time = np.sort(_times(config, 0, (config.num_days, rows_per_day), rng), axis=1).ravel()
    user = rng.integers(0, config.num_users, len(time))
    return Rows(user, rng.integers(0, config.num_items, len(time)), time)


def step_rates(world: World, rows: Rows) -> dict[str, np.ndarray]:
    """c_t of the rows, float64[N] by task; biases give these rows the tasks' base rates."""
    signals = world.signals(rows)
    biases = planted.solve_biases(signals, {t.name: t.base_rate for t in TASKS}, PARENTS)
    return {name: planted.sigmoid(biases[name] + signal) for name, signal in signals.items()}


def _columns(rows: Rows, first_id: int) -> dict[str, pa.Array]:
    return {
        "impression_id": pa.array(first_id + np.arange(len(rows.time))),
        "user_id": pa.array(rows.user),
        "item_id": pa.array(rows.item),
        "time": _timestamps(rows.time),
        "hour": pa.array(rows.hour.astype(np.int8)),
    }


def _timestamps(time_us: np.ndarray) -> pa.Array:
    return pa.array(time_us, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _behaviour(world: World) -> pa.Table:
    logs = [
        pa.table(
            {
                "user_id": log.user,
                "item_id": log.item,
                "time": _timestamps(log.time),
                "action": [behaviour] * len(log.time),
            }
        )
        for behaviour, log in world.logs.items()
    ]
    return pa.concat_tables(logs).sort_by([("time", "ascending"), ("user_id", "ascending")])


def _logs(world: World, config: WorldConfig) -> dict[str, pa.Table]:
    """Logs of all days, each sorted by time."""
    rows = draw_rows(config, config.rows_per_day, 4)
    rates = step_rates(world, rows)
    rng = config.rng(5)
    labels = planted.draw_labels(rates, PARENTS, rng)
    missing = planted.draw_missing({t.name: t.missing for t in TASKS}, len(rows.time), rng)
    columns = _columns(rows, 0)
    outcome = {
        f"is_{name}": pa.array(label.astype(np.int8), mask=missing[name])
        for name, label in labels.items()
    }
    truth = {f"p_{name}": p for name, p in planted.end_to_end(rates, PARENTS).items()}
    ahead = draw_rows(config, max(1, config.rows_per_day // 4), 6)
    return {
        "impressions": pa.table({**columns, **outcome}),
        "behaviour": _behaviour(world),
        "candidates": pa.table(_columns(ahead, 10**9)),
        "oracle": pa.table({**{k: columns[k] for k in ("impression_id", "time")}, **truth}),
    }


def _by_day(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Days and their rows of a table that is sorted by time."""
    day = table["time"].cast(pa.int64()).to_numpy() // _DAY_US
    for each in np.unique(day):
        start, end = np.searchsorted(day, [each, each + 1])
        yield date(1970, 1, 1) + timedelta(days=int(each)), table.slice(start, end - start)


def write_world(root: Path, config: WorldConfig) -> World:
    """Write the world's raw logs as a real system would: a side table and one file per day and log.

    Files: `users.parquet`, and `<log>/<YYYY-MM-DD>.parquet` for the logs
    impressions, behaviour (which starts three days earlier), candidates and oracle
    (`p_<task>` by impression_id).
    """
    world = make_world(config)
    root.mkdir(parents=True, exist_ok=True)
    users = {"user_id": np.arange(config.num_users), **world.users}
    write_table(root / "users.parquet", pa.table(users))
    for log, table in _logs(world, config).items():
        (root / log).mkdir(exist_ok=True)
        for day, rows in _by_day(table):
            write_table(root / log / f"{day}.parquet", rows)
    return world
