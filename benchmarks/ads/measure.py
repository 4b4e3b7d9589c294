"""Concordance and calibration of risks on test rows, and what the truth reaches on the same rows.

Rows of one landmark are at risk from the same age on, so pairs are formed within landmarks, and the
C of several landmarks pools their pairs. Risk is 1 - RMST / H.

    short     landmarks before 10, stops until day 9,  H = days until then
    long      landmarks from 10 on,                    H = length of the test window
    overall   all landmarks,                           H = length of the test window
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.ads.world import Truth
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, difference, estimate
from recsys_mtl.metrics.survival.calibration import ObservedExpected
from recsys_mtl.metrics.survival.concordance import harrell_c
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.models.heads.hazard import (
    daily_hazards,
    log_alive,
    restricted_mean,
    window_days,
)
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures
from recsys_mtl.simulate.ads_hazards import CAUSES, WEAR_OUT_AGE

EDGES = torch.tensor([1, 3, 5, 7, 10, 30, 60, 90, 120])
SCOPES = ("short", "long", "overall")
TEST_DAYS = 30

Life = Callable[[np.ndarray], np.ndarray]
"""H int64[n] -> expected days within the next H, float64[n]."""


@dataclass(frozen=True, slots=True)
class LandmarkRows:
    """n landmark rows; int64[n] each."""

    creative: np.ndarray
    advertiser: np.ndarray
    entry: np.ndarray
    exit: np.ndarray
    event: np.ndarray
    """0 censored, else 1 + index of the cause."""

    @classmethod
    def of(cls, table: pa.Table) -> "LandmarkRows":
        """Rows of a landmarks artifact."""
        stopped = table["stopped"].to_numpy() > 0
        exit_ = table["exit"].to_numpy().astype(np.int64)
        return cls(
            table["creative"].to_numpy(),
            table["advertiser"].to_numpy(),
            table["entry"].to_numpy().astype(np.int64),
            exit_,
            np.where(stopped, 1 + (exit_ >= WEAR_OUT_AGE), 0),
        )

    def take(self, rows: np.ndarray) -> "LandmarkRows":
        """A subset; `rows` is bool[n] or int64[m]."""
        return LandmarkRows(*(getattr(self, name)[rows] for name in self.__slots__))

    def horizon(self, scope: str) -> np.ndarray:
        """H of each row, int64[n]."""
        to_day_10 = WEAR_OUT_AGE - self.entry
        return to_day_10 if scope == "short" else np.full(len(self.entry), TEST_DAYS)

    def inside(self, scope: str) -> np.ndarray:
        """Rows of a scope, bool[n]."""
        early = self.entry < WEAR_OUT_AGE
        return {"short": early, "long": ~early, "overall": np.full(len(early), True)}[scope]

    def outcomes(self, scope: str) -> Outcomes:
        """Outcomes of all rows, as the scope follows them."""
        last = WEAR_OUT_AGE - 1 if scope == "short" else int(self.exit.max())
        return Outcomes(np.minimum(self.exit, last), (self.event > 0) & (self.exit <= last))

    def exposures(self, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Days float64[n, J] and stops float64[n, Q, J] on a grid."""
        entry, exit_, event = map(torch.from_numpy, (self.entry, self.exit, self.event))
        days, events = exposures(entry, exit_, event, edges, len(CAUSES))
        return days.double(), events.double()


@dataclass(frozen=True, slots=True, eq=False)
class Hazards:
    """Predicted daily hazards of n rows on a grid of its own."""

    z: torch.Tensor
    """Logits float64[n, Q, J]."""
    edges: torch.Tensor
    """int64[J + 1], all of `EDGES` among them."""

    def life(self, rows: LandmarkRows) -> Life:
        """Expected days of the same n rows."""
        return life_of(log_alive(self.z), self.edges, rows.entry)


def life_of(daily: torch.Tensor, edges: torch.Tensor, entry: np.ndarray) -> Life:
    """Expected days by the log-probability of living through a day, float64[n, J]."""
    age = torch.from_numpy(entry - 1)

    def life(num_days: np.ndarray) -> np.ndarray:
        window = window_days(age, torch.from_numpy(num_days), edges).double()
        return restricted_mean(daily, window).numpy()

    return life


def life_of_curves(survival: np.ndarray) -> Life:
    """Expected days by P(alive after each coming day), float64[n, H_max]."""
    before = np.concatenate([np.ones((len(survival), 1)), survival[:, :-1]], axis=1)

    def life(num_days: np.ndarray) -> np.ndarray:
        inside = np.arange(before.shape[1]) < num_days[:, None]
        found: np.ndarray = (before * inside).sum(1)
        return found

    return life


def risks(life: Life, rows: LandmarkRows) -> dict[str, np.ndarray]:
    """1 - RMST / H of each scope; rows outside get a value that nobody reads."""
    found = {}
    for scope in SCOPES:
        num_days = np.maximum(rows.horizon(scope), 1)
        found[scope] = 1 - life(num_days) / num_days
    return found


def concordance(risk: np.ndarray, rows: LandmarkRows, scope: str) -> Estimate:
    """C of a scope over pairs of rows of one landmark, clustered by advertiser.

    Its error takes the landmarks' shares of the pairs as given.
    """
    outcomes, inside = rows.outcomes(scope), rows.inside(scope)
    psi, num_pairs, value = np.zeros(len(inside)), 0.0, 0.0
    for landmark in np.unique(rows.entry[inside]):
        at = rows.entry == landmark
        c = harrell_c(risk[at], outcomes.take(at))
        if c.value is None or c.psi is None:
            continue
        pairs = c.extra["pairs"]
        value += pairs * c.value
        psi[at] = c.psi * pairs / at.sum()
        num_pairs += pairs
    psi = psi[inside] * inside.sum() / num_pairs
    clusters = Clusters.of(rows.advertiser[inside])
    return estimate(value / num_pairs, psi, clusters, outcomes.event[inside])


def _by_landmark(risk: dict[str, np.ndarray], rows: LandmarkRows) -> dict[str, float | None]:
    """C of each landmark, in the scope that is its own: short or long."""
    found = {}
    for landmark in np.unique(rows.entry):
        scope = "short" if landmark < WEAR_OUT_AGE else "long"
        at = rows.entry == landmark
        found[str(landmark)] = harrell_c(risk[scope][at], rows.outcomes(scope).take(at)).value
    return found


def ranked(
    risk: dict[str, np.ndarray], rows: LandmarkRows, oracle: dict[str, np.ndarray]
) -> dict[str, Any]:
    """C of each scope and landmark, and C less the oracle's, with errors from these test rows."""
    found: dict[str, Any] = {"C": {}, "minus_oracle": {}, "by_landmark": _by_landmark(risk, rows)}
    for scope in SCOPES:
        c = concordance(risk[scope], rows, scope)
        gap = difference(c, concordance(oracle[scope], rows, scope))
        found["C"][scope] = [c.value, c.se]
        found["minus_oracle"][scope] = [gap.value, gap.se]
    return found


def calibrated(hazards: Hazards, rows: LandmarkRows, truth: Truth) -> dict[str, Any]:
    """Nats per row; stops by cause and bucket of `EDGES`: observed, expected by model and truth."""
    z = hazards.z
    days, events = rows.exposures(hazards.edges)
    cells = ObservedExpected.of(events.numpy(), days.numpy(), daily_hazards(z).numpy())
    first = np.searchsorted(hazards.edges.numpy(), EDGES.numpy()[:-1])
    return {
        "nll": float(daily_hazard_nll(z, days, events).mean()),
        "observed": np.add.reduceat(cells.observed, first, axis=1).tolist(),
        "expected": np.add.reduceat(cells.expected, first, axis=1).tolist(),
        "true_expected": true_stops(rows, truth).tolist(),
    }


def true_stops(rows: LandmarkRows, truth: Truth) -> np.ndarray:
    """Sum of the true hazards over the days at risk, float64[Q, J]."""
    num_days = rows.exit - rows.entry + 1
    row = np.repeat(np.arange(len(num_days)), num_days)
    first = np.repeat(np.cumsum(num_days) - num_days, num_days)
    age = rows.entry[row] + np.arange(len(row)) - first
    states = truth.at(rows.creative[row], age)
    return by_bucket(age, truth.hazard[states] * (states >= 0)[:, None])


def by_bucket(age: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of values float64[n, Q] over the buckets of their ages, float64[Q, J]."""
    size = len(EDGES) - 1
    place = np.searchsorted(EDGES.numpy(), age, "right") - 1
    return np.stack([np.bincount(place, v, size)[:size] for v in values.T])
