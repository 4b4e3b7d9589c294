"""The simulated world: its logs, and the truth at rows' landmarks."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.artifacts.commit import atomic_write
from recsys_mtl.simulate.ads import write_world
from recsys_mtl.simulate.ads_hazards import AdTruth, AtRisk, hazard_path
from recsys_mtl.simulate.ads_world import WorldConfig

CONFIG = WorldConfig(num_creatives=83_500, num_days=90, days_before=40, rows_per_day=2_000)
"""Some 60,000 of them are in the log. Few impressions: clicks are not what is measured here."""
QUICK = WorldConfig(num_creatives=20_000, num_days=90, days_before=40, rows_per_day=500)
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

    def survival(self, states: np.ndarray, num_days: int) -> np.ndarray:
        """The oracle's curves from states on: P(alive after each coming day), float64[m, H].

        Args:
            states: int64[m], positions.
            num_days: H.
        """
        chosen = AtRisk(*(values[states] for values in self.states.columns().values()))
        return hazard_path(self.ads, chosen, num_days).survival()


def _keys(creative: np.ndarray, age: np.ndarray) -> np.ndarray:
    found: np.ndarray = creative.astype(np.int64) * 10_000 + age
    return found
