"""The simulated world: its logs, and the truth at rows' landmarks."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.artifacts.commit import atomic_write
from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_hazards import AdTruth, AtRisk, hazard_path
from recsys_mtl.simulate.ads_world import WorldConfig

CONFIG = WorldConfig(num_creatives=94_000, num_days=60, days_before=40, rows_per_day=2_000)
"""Some 60,000 of them are in the log. Few impressions: clicks are not what is measured here."""
QUICK = WorldConfig(num_creatives=9_400, num_days=60, days_before=40, rows_per_day=500)
_DONE = "world.json"


def make(root: Path, config: WorldConfig) -> None:
    """Write the world unless it is there.

    Raises:
        ValueError: if another one is.
    """
    wanted = config.model_dump_json()
    if not (root / _DONE).exists():
        write_world(root, config)
        atomic_write(root / _DONE, wanted.encode())
    if json.loads((root / _DONE).read_text()) != json.loads(wanted):
        raise ValueError(f"{root} holds another world than {wanted}; give another --data")


def read_days(root: Path, folder: str) -> pa.Table:
    """All days of a log."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((root / folder).glob("*")))


def last_day(config: WorldConfig) -> "np.datetime64":
    """Of the log."""
    return np.datetime64(config.first_day + timedelta(days=config.num_days - 1))


@dataclass(frozen=True, slots=True)
class Truth:
    """Latent state of all creatives, and what each was on its delivered days."""

    ads: AdTruth
    states: AtRisk
    hazard: np.ndarray
    """float64[n, 2] of the n states."""
    _key: np.ndarray
    """int64[n], rising."""

    @classmethod
    def read(cls, root: Path) -> "Truth":
        """Truth of the world at `root`."""
        table = read_days(root, "oracle/hazards")
        key = _keys(table["creative"].to_numpy(), table["age"].to_numpy())
        order = np.argsort(key)
        table = table.take(pa.array(order))
        hazard = np.stack([table["hazard_cut_out"], table["hazard_wear_out"]], axis=1)
        return cls(AdTruth.read(root), AtRisk.of(table), hazard, key[order])

    def at(self, creative: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Positions of the states of creatives at ages, int64[m]; -1 where nothing was delivered.

        Args:
            creative: int64[m].
            age: int64[m].
        """
        wanted = _keys(creative, age)
        place = np.minimum(np.searchsorted(self._key, wanted), len(self._key) - 1)
        return np.where(self._key[place] == wanted, place, -1)

    def mean_life(self, states: np.ndarray, num_days: np.ndarray) -> np.ndarray:
        """The oracle's expected days within the next H, float64[m].

        Args:
            states: int64[m], positions.
            num_days: int64[m], H of each row.
        """
        chosen = AtRisk(*(values[states] for values in self.states.columns().values()))
        path = hazard_path(self.ads, chosen, int(num_days.max()))
        alive = np.concatenate([np.ones((len(states), 1)), path.survival()[:, :-1]], axis=1)
        inside = np.arange(alive.shape[1]) < num_days[:, None]
        found: np.ndarray = (alive * inside).sum(1)
        return found


def _keys(creative: np.ndarray, age: np.ndarray) -> np.ndarray:
    found: np.ndarray = creative.astype(np.int64) * 10_000 + age
    return found
