"""What earlier days tell of how strict an advertiser is and of what a campaign buys."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from benchmarks.ads.world import Truth, read_days
from recsys_mtl.ingest.peers import Totals
from recsys_mtl.simulate.ads_hazards import AdTruth
from recsys_mtl.simulate.planted import sigmoid

_STRICTNESS_VARIANCE = 0.3**2
_BUYING, _BUYING_VARIANCE, _LEVEL_VARIANCE = 5.3, 0.8**2, 0.5**2
"""Of the world: ln level is its campaign's buying plus the creative's own noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Operators:
    """Normal beliefs about strictness and ln level of the creatives of m states, before them."""

    mean: np.ndarray
    """float64[m, 2]"""
    sd: np.ndarray
    """float64[m, 2]"""

    @classmethod
    def of(cls, truth: Truth, world: Path, states: np.ndarray) -> Self:
        """From the other creatives' delivered days before each state's day.

        Strictness c is one Newton step from 0 on their stops O with hazards h at c = 0,

            (O - sum h) / (sum h (1 - h) + 1 / .09)

        and levels are those of the campaign's other creatives that had been launched.

        Args:
            truth: of the world.
            world: its folder.
            states: int64[m], positions.
        """
        log = _Log.read(truth, world)
        creative, day = truth.states.creative[states], log.day[states]
        hazard = truth.hazard[:, 0]
        odds = np.log(np.maximum(hazard, 1e-300) / (1 - np.minimum(hazard, 1 - 1e-12)))
        at_zero = sigmoid(odds - truth.ads.strictness[truth.states.creative]) * (hazard > 0)
        stops = log.stopped * (hazard > 0)
        decisions = np.stack([stops - at_zero, at_zero * (1 - at_zero)], axis=1)
        surprise, information = log.before(log.advertiser, decisions, creative, day).T
        precision = information + 1 / _STRICTNESS_VARIANCE
        level = np.log(truth.ads.level)[truth.states.creative]
        launch = np.stack([log.is_first, log.is_first * level], axis=1)
        count, total = log.before(log.campaign, launch, creative, day).T
        buying = count / _LEVEL_VARIANCE + 1 / _BUYING_VARIANCE
        mean = (total / _LEVEL_VARIANCE + _BUYING / _BUYING_VARIANCE) / buying
        return cls(
            np.stack([surprise / precision, mean], axis=1),
            np.sqrt(np.stack([1 / precision, 1 / buying + _LEVEL_VARIANCE], axis=1)),
        )

    def draw(self, rows: np.ndarray, draws: AdTruth, rng: np.random.Generator) -> AdTruth:
        """The draws of these states, equally many of each, with drawn strictness and level."""
        each = len(draws.quality) // len(rows)
        noise = rng.normal(size=(len(rows), each, 2))
        found = self.mean[rows][:, None] + noise * self.sd[rows][:, None]
        strictness, level = found.reshape(-1, 2).T
        return replace(draws, strictness=strictness, level=np.exp(level))


@dataclass(frozen=True, slots=True, eq=False)
class _Log:
    """Of all states, n entries; of all A creatives where it says so."""

    creative: np.ndarray
    day: np.ndarray
    """int64[n], since 1970."""
    stopped: np.ndarray
    """float64[n], 1 if the operator stopped the creative on the day."""
    is_first: np.ndarray
    """float64[n], 1 on a creative's first day in the log."""
    advertiser: np.ndarray
    """int64[A]"""
    campaign: np.ndarray
    """int64[A]"""

    @classmethod
    def read(cls, truth: Truth, world: Path) -> Self:
        log = read_days(world, "delivery")
        creative = log["creative"].to_numpy()
        size = len(truth.ads.quality)
        launched, advertiser, campaign = np.zeros((3, size), np.int64)
        launched[creative] = log["launched"].cast(pa.int32()).to_numpy()
        for codes, name in ((advertiser, "advertiser"), (campaign, "campaign")):
            codes[creative] = np.unique(log[name].to_numpy(), return_inverse=True)[1]
        of = truth.states.creative
        flagged = log.filter(log["stopped"])
        at = flagged["creative"].to_numpy()
        age = flagged["day"].cast(pa.int32()).to_numpy() - launched[at] + 1
        stopped, is_first = np.zeros((2, len(of)))
        stopped[truth.at(at, age)] = 1
        days = launched[of] + truth.states.age - 1
        order = np.lexsort((days, of))
        is_first[order[np.diff(of[order], prepend=-1) != 0]] = 1
        return cls(of, days, stopped, is_first, advertiser, campaign)

    def before(
        self, group: np.ndarray, values: np.ndarray, creative: np.ndarray, day: np.ndarray
    ) -> np.ndarray:
        """Sums over the states before a day of the group's other creatives, float64[m, k].

        Args:
            group: int64[A].
            values: float64[n, k].
            creative: int64[m].
            day: int64[m].
        """
        alone = np.arange(len(group))
        both = [
            Totals.of(of[self.creative], self.day, values).before(of[creative], day)
            for of in (group, alone)
        ]
        found: np.ndarray = both[0] - both[1]
        return found
