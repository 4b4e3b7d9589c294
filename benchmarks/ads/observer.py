"""How well could anybody rank creatives from what the logs show?

The oracle sees quality and fatigue; no model can. The observer knows every equation of the world
and every parameter but these two. It has a normal belief about them from title, image and
advertiser (ridge regression on the truth of the creatives that are not tested), and weighs
draws from it by the clicks and by the survival of the days before the landmark:

    log w = sum over delivered days [ c ln(n r) - n r + ln(1 - h) ]

Its curve is the weighted mean of the draws' plug-in curves: what is left of the oracle's C for
somebody who has the model's inputs, and knows more of the world than data can tell.

How strict an advertiser is and what a campaign buys are such parameters. The second observer knows
neither beforehand, and infers them from what earlier days showed of the advertiser's and the
campaign's other creatives (`operators.py`); of those it is still granted the true click rates.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.ads.operators import Operators
from benchmarks.ads.world import Truth, read_days
from recsys_mtl.simulate.ads_hazards import AdTruth, AtRisk, hazard_path

_DRAWS, _ROWS = 64, 1_000
_RIDGE = 1.0
_ALMOST_ONE = 1 - 1e-12


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Of all creatives about (quality, fatigue), from title, image and advertiser."""

    mean: np.ndarray
    """float64[A, 2]"""
    root: np.ndarray
    """float64[2, 2], Cholesky root of the covariance of the error."""

    @classmethod
    def read(cls, root: Path, truth: AdTruth, known: np.ndarray) -> "Beliefs":
        """Regress the truth of the creatives in `known`, int64[k], on their traces."""
        x = _traces(root, truth, known)
        y = np.stack([truth.quality, truth.fatigue], axis=1)
        seen = x[known]
        weights = np.linalg.solve(seen.T @ seen + _RIDGE * np.eye(x.shape[1]), seen.T @ y[known])
        mean = x @ weights
        return cls(mean, np.linalg.cholesky(np.cov((y - mean)[known].T)))


def _traces(root: Path, truth: AdTruth, known: np.ndarray) -> np.ndarray:
    """Words, image, and the mean of the advertiser's other known creatives, float64[A, p]."""
    table = pq.read_table(root / "creatives.parquet")
    words = table["title"].combine_chunks()
    names = pc.unique(words.flatten())
    bag = np.zeros((len(table), len(names)))
    place = pc.index_in(words.flatten(), names).to_numpy()
    bag[pc.list_parent_indices(words).to_numpy(), place] = 1
    image = np.stack([table[f"image_{k}"].to_numpy() for k in range(8)], axis=1)
    # Strictness is one number per advertiser, drawn anew for each.
    _, advertiser = np.unique(truth.strictness, return_inverse=True)
    is_known = np.zeros(len(table))
    is_known[known] = 1
    total = np.bincount(advertiser, is_known * truth.quality)[advertiser]
    others = np.bincount(advertiser, is_known)[advertiser] - is_known
    # Shrunk as for .3 of the variance between advertisers, .7 within.
    level = (total - is_known * truth.quality) / (others + 0.7 / 0.3)
    return np.column_stack([bag, image, level, np.ones(len(table))])


def observed_survival(
    truth: Truth,
    world: Path,
    states: np.ndarray,
    known: np.ndarray,
    num_days: int,
    operators: Operators | None = None,
) -> np.ndarray:
    """P(alive after each coming day) as the observer sees it, float64[m, H].

    Args:
        truth: of the world.
        world: its folder.
        states: int64[m], positions of the rows' landmarks; their lives began inside the log.
        known: int64[k], creatives whose latent state the regression may use.
        num_days: H.
        operators: of the same m states, where strictness and level have to be inferred.
    """
    beliefs, counts = Beliefs.read(world, truth.ads, known), _Counts.read(world, truth)
    rng = np.random.default_rng(0)
    found = []
    for rows in np.array_split(np.arange(len(states)), -(-len(states) // _ROWS)):
        creative, age = truth.states.creative[states[rows]], truth.states.age[states[rows]]
        draws = _draws(truth.ads, beliefs, creative, rng)
        if operators is not None:
            draws = operators.draw(rows, draws, rng)
        log_weight, ads = _weighed(draws, truth, counts, creative, age, operators is not None)
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        alive = hazard_path(draws, ads, num_days).survival()
        found.append(np.einsum("nk,nkh->nh", weight, alive.reshape(-1, _DRAWS, num_days)))
    return np.concatenate(found)


def _draws(
    truth: AdTruth, beliefs: Beliefs, creative: np.ndarray, rng: np.random.Generator
) -> AdTruth:
    """`_DRAWS` possible truths of each creative, one after the other."""
    noise = rng.normal(size=(len(creative), _DRAWS, 2)) @ beliefs.root.T
    latent = (beliefs.mean[creative][:, None] + noise).reshape(-1, 2)
    same = AdTruth(*(v[np.repeat(creative, _DRAWS)] for v in truth.columns().values()))
    return replace(same, quality=latent[:, 0], fatigue=latent[:, 1])


def _weighed(
    draws: AdTruth,
    truth: Truth,
    counts: "_Counts",
    creative: np.ndarray,
    age: np.ndarray,
    by_volume: bool,
) -> tuple[np.ndarray, AtRisk]:
    """Log weights float64[m, draws] from the days before the landmarks, and the draws' states.

    `by_volume` weighs the impressions as well, which tell of a level that is not known.
    """
    size = len(draws.quality)
    ads = AtRisk(np.arange(size), *np.zeros((4, size)))
    log_weight = np.zeros(size)
    for day in range(1, int(age.max())):
        state = truth.at(creative, np.full(len(age), day))
        n, clicks = (np.repeat(c, _DRAWS) for c in counts.of(state))
        # Days from the landmark on are not known yet; days without delivery teach nothing.
        lives = (n > 0) & np.repeat(day < age, _DRAWS)
        today = replace(ads, age=np.full(size, day))
        ctr = draws.ctr(today)
        hazard = np.minimum(draws.hazards(today, ctr).sum(1), _ALMOST_ONE)
        fit = clicks * np.log(np.maximum(n, 1) * ctr) - n * ctr + np.log1p(-hazard)
        if by_volume:
            fit += _log_likelihood_of_volume(n, draws.delivery(today, ctr))
        log_weight += np.where(lives, fit, 0)
        after = today.tomorrow(ctr, n).columns()
        before = ads.columns()
        ads = AtRisk(*(np.where(lives, after[name], before[name]) for name in before))
    return log_weight.reshape(-1, _DRAWS), replace(ads, age=np.repeat(age, _DRAWS))


def _log_likelihood_of_volume(n: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Of n impressions, but for a constant; their noise is log-normal, and Poisson beyond."""
    seen = np.maximum(n, 1)
    variance = 0.4**2 + 1 / seen
    error = np.log(seen) - np.log(mean) + 0.08
    found: np.ndarray = -(error**2) / variance / 2
    return found


@dataclass(frozen=True, slots=True)
class _Counts:
    """Impressions and clicks of the states of a world, int64[n] each."""

    impressions: np.ndarray
    clicks: np.ndarray

    @classmethod
    def read(cls, root: Path, truth: Truth) -> "_Counts":
        log = read_days(root, "delivery")
        log = log.filter(pc.greater(log["impressions"], 0))
        day = log["day"].cast(pa.int32()).to_numpy()
        age = day - log["launched"].cast(pa.int32()).to_numpy() + 1
        place = truth.at(log["creative"].to_numpy(), age)
        found = np.zeros((2, len(truth.hazard)), np.int64)
        found[0, place], found[1, place] = log["impressions"], log["clicks"]
        return cls(*found)

    def of(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of states, int64[m]; 0 for -1."""
        there = states >= 0
        return self.impressions[states] * there, self.clicks[states] * there
