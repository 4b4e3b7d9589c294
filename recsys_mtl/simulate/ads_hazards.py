"""Why ads are stopped: latent truth, click rates and hazards of the simulated ads world.

Creative i has a quality q and a fatigue f, both N(0, 1), its genre a target click rate g and
its advertiser a strictness c ~ N(0, .09). On age a (the launch day is 1), after N impressions on
earlier days and with w the mean click rate of its first week,

    ln r = ln g + .6 q - k [ (a - 1) / 10 + ln(1 + N / 2000) ]     k = .1 exp(.8 f)
    n    = 1 + Poisson(level sqrt(r / g) noise)                    impressions of the day
    h    = sigmoid(-1 + c + 3 ln(g / r))     a < 10, cut-out:  the ad misses its target
    h    = sigmoid(-4.8 + 6 ln(w / r))       a >= 10, wear-out: it falls behind its first week

The operator decides at the end of a delivered day, so a stop on age a leaves a whole day a.
The two causes never overlap in age. Delivery is random and moves N, so the hazards of coming days
are not fixed by the present state; `hazard_path` is their plug-in at expected delivery, the oracle
that a model can be asked to match.

Source: the two kinds of stop and their split at ten days are those of Kitada et al. (JSAI 2020);
every functional form is ours.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.simulate.planted import sigmoid

CAUSES = ("cut_out", "wear_out")
WEAR_OUT_AGE = 10
FIRST_WEEK = 7
_QUALITY_SLOPE = 0.6
_DECAY, _FATIGUE_SLOPE = 0.1, 0.8
_DECAY_DAYS, _DECAY_IMPRESSIONS = 10.0, 2_000.0
_CUT_OUT_BIAS, _CUT_OUT_SLOPE = -1.0, 3.0
_WEAR_OUT_BIAS, _WEAR_OUT_SLOPE = -4.8, 6.0


@dataclass(frozen=True, slots=True)
class AtRisk:
    """Creatives that may be stopped on a day, as they are at its start: n entries each."""

    creative: np.ndarray
    """int64[n]"""
    age: np.ndarray
    """int64[n], the day's number in the life of the creative."""
    impressions: np.ndarray
    """float64[n], delivered on earlier days, those before the log included."""
    week_sum: np.ndarray
    """float64[n], sum of the click rates of the first week's delivered days before today."""
    week_days: np.ndarray
    """int64[n], how many those are."""

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """The entries of `oracle/hazards/{date}.parquet`."""
        return cls(*(table[field.name].to_numpy() for field in fields(cls)))

    def columns(self) -> dict[str, np.ndarray]:
        """Inverse of `of`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def tomorrow(self, ctr: np.ndarray, impressions: np.ndarray) -> "AtRisk":
        """The entries one day on, after a day of `impressions` at the rate `ctr`."""
        in_week = self.age <= FIRST_WEEK
        return AtRisk(
            self.creative,
            self.age + 1,
            self.impressions + impressions,
            self.week_sum + in_week * ctr,
            self.week_days + in_week,
        )


@dataclass(frozen=True, slots=True)
class AdTruth:
    """Latent state of A creatives, float64[A] each."""

    quality: np.ndarray
    fatigue: np.ndarray
    target: np.ndarray
    """Click rate that the operator expects of the genre."""
    strictness: np.ndarray
    level: np.ndarray
    """Daily impressions that the budget buys at the target rate."""

    @classmethod
    def read(cls, root: Path) -> Self:
        """The truth of the world written to `root`."""
        table = read_table(root / "oracle" / "creatives.parquet")
        return cls(*(table[field.name].to_numpy() for field in fields(cls)))

    def columns(self) -> dict[str, np.ndarray]:
        """Inverse of `read`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def ctr(self, ads: AtRisk) -> np.ndarray:
        """Click rate r of the day, float64[n]."""
        i = ads.creative
        decay = _DECAY * np.exp(_FATIGUE_SLOPE * self.fatigue[i])
        wear = (ads.age - 1) / _DECAY_DAYS + np.log1p(ads.impressions / _DECAY_IMPRESSIONS)
        rate: np.ndarray = self.target[i] * np.exp(_QUALITY_SLOPE * self.quality[i] - decay * wear)
        return rate

    def delivery(self, ads: AtRisk, ctr: np.ndarray) -> np.ndarray:
        """Expected impressions of the day beyond the first, float64[n]: clicks attract budget."""
        mean: np.ndarray = self.level[ads.creative] * np.sqrt(ctr / self.target[ads.creative])
        return mean

    def hazards(self, ads: AtRisk, ctr: np.ndarray) -> np.ndarray:
        """P(stopped at the end of the day by each of `CAUSES` | delivered), float64[n, 2]."""
        i = ads.creative
        short = np.log(self.target[i] / ctr)
        cut_out = sigmoid(_CUT_OUT_BIAS + self.strictness[i] + _CUT_OUT_SLOPE * short)
        first_week = ads.week_sum / np.maximum(ads.week_days, 1)
        # Every creative delivers on its first day; its week is empty only before that.
        loss = np.log(np.where(ads.week_days > 0, first_week, ctr) / ctr)
        wear_out = sigmoid(_WEAR_OUT_BIAS + _WEAR_OUT_SLOPE * loss)
        is_late = ads.age >= WEAR_OUT_AGE
        return np.stack([np.where(is_late, 0, cut_out), np.where(is_late, wear_out, 0)], axis=1)


@dataclass(frozen=True, slots=True)
class HazardPath:
    """True hazards of n creatives on the H days from their entries' day on, that day included."""

    hazard: np.ndarray
    """float64[n, 2, H] in the order of `CAUSES`."""

    def survival(self) -> np.ndarray:
        """P(alive after day k of the path | alive at its start), float64[n, H]."""
        alive: np.ndarray = np.cumprod(1 - self.hazard.sum(1), axis=1)
        return alive

    def mean_life(self) -> np.ndarray:
        """Expected delivered days within the H, the restricted mean survival time, float64[n]."""
        days: np.ndarray = 1 + self.survival()[:, :-1].sum(1)
        return days

    def incidence(self) -> np.ndarray:
        """P(stopped by cause q up to day k | alive at the start), float64[n, 2, H]."""
        alive = self.survival()
        before = np.concatenate([np.ones((len(alive), 1)), alive[:, :-1]], axis=1)
        stopped: np.ndarray = np.cumsum(self.hazard * before[:, None], axis=2)
        return stopped


def hazard_path(truth: AdTruth, ads: AtRisk, num_days: int) -> HazardPath:
    """Hazards of the coming days, given the latent state and everything up to their start.

    Impressions of coming days are set to their expectations; no pause and no campaign end is
    foreseen, they censor. At H = 1 this is the true hazard; later the plug-in errs, since
    hazards are not linear in ln(1 + N) (tests hold it to the simulated stops).

    Args:
        truth: of the world.
        ads: n entries, e.g. those of landmark days.
        num_days: H.

    Returns:
        Paths of float64[n, 2, H]. O(n H).
    """
    hazards = np.empty((len(ads.creative), len(CAUSES), num_days))
    for k in range(num_days):
        ctr = truth.ctr(ads)
        hazards[:, :, k] = truth.hazards(ads, ctr)
        ads = ads.tomorrow(ctr, 1 + truth.delivery(ads, ctr))
    return HazardPath(hazards)


def oracle_risk(truth: AdTruth, ads: AtRisk, num_days: int) -> np.ndarray:
    """Score of the oracle's C: the expected share of the H days that is lost, float64[n].

    1 - RMST / H, higher stops sooner. P(stopped within H) = 1 - S(H) would rank badly over long
    horizons, within which nearly everything stops.
    """
    risk: np.ndarray = 1 - hazard_path(truth, ads, num_days).mean_life() / num_days
    return risk
