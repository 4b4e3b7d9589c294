"""Weights of creatives by their click rate, smoothed by group and fitted on training rows."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from recsys_mtl.ingest.columns import refuse

CtrWeightMode = Literal["none", "paper", "smoothed", "ratio"]

MIN_ADS = 20
"""A group with fewer ads that were shown takes the prior of all."""
NO_SPREAD_STRENGTH = 10_000.0
"""Of the prior of all, where rates differ by no more than clicks by chance."""
MAX_CORRELATION = 0.99
RATIO_BOUNDS = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class BetaPrior:
    """Beta(alpha, beta) of the click rates of a group's ads."""

    mean: float
    """alpha / (alpha + beta)"""
    strength: float
    """alpha + beta, the impressions that it weighs as much as."""


@dataclass(frozen=True, slots=True)
class CtrWeights:
    """Weights w of rows with c clicks in n impressions, and what was learned for them.

        none      1
        paper     1 + c / n                                       (Kitada et al., JSAI 2020)
        smoothed  1 + r,           r = (c + alpha) / (n + alpha + beta)
        ratio     scale * clip(r / m, 0.2, 5),   m = alpha / (alpha + beta)

    with the prior of the row's group. Rows without impressions get 1, 1, 1 + m and scale: what is
    expected of an ad of their group. The bounds, and everything but the paper's mode, are our
    reading.
    """

    mode: CtrWeightMode
    overall: BetaPrior
    """For rows of groups not in `groups`."""
    groups: dict[str, BetaPrior] = field(default_factory=dict)
    scale: float = 1.0
    """Makes the mean over the training table 1 in mode ratio; a constant, the same for all."""

    def of(self, clicks: np.ndarray, impressions: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Weights float64[B].

        Args:
            clicks: int64[B], counted before the row's time only: what comes later is a leak.
            impressions: int64[B], of the same days.
            groups: str[B].

        Raises:
            DataError: D061, as `check_counts`.
        """
        check_counts(clicks, impressions)
        weights: np.ndarray
        if self.mode == "none":
            weights = np.ones(len(clicks))
        elif self.mode == "paper":
            weights = 1 + clicks / np.maximum(impressions, 1)
        elif self.mode == "smoothed":
            rate, _ = self._rates(clicks, impressions, groups)
            weights = 1 + rate
        else:
            rate, mean = self._rates(clicks, impressions, groups)
            ratio = np.divide(rate, mean, out=np.ones(len(rate)), where=mean > 0)
            weights = self.scale * np.clip(ratio, *RATIO_BOUNDS)
        return weights

    def _rates(
        self, clicks: np.ndarray, impressions: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Smoothed rates, and the means of their priors."""
        names, place = np.unique(groups, return_inverse=True)
        priors = [self.groups.get(str(name), self.overall) for name in names]
        mean = np.array([prior.mean for prior in priors])[place]
        strength = np.array([prior.strength for prior in priors])[place]
        return (clicks + mean * strength) / (impressions + strength), mean


def fit_ctr_weights(
    mode: CtrWeightMode, clicks: np.ndarray, impressions: np.ndarray, groups: np.ndarray
) -> CtrWeights:
    """Fit the priors of all ads and of each group, and the scale of mode ratio.

    A group keeps a prior of its own if it has `MIN_ADS` ads with impressions and their rates
    differ by more than chance; the others use the prior of all. If not even all ads differ, that
    one is nearly a constant rate (`NO_SPREAD_STRENGTH`). These thresholds are our reading.

    Args:
        mode: of the weights.
        clicks: int64[n], of training rows.
        impressions: int64[n].
        groups: str[n], such as genre x placement.

    Raises:
        DataError: D061, as `check_counts`.
    """
    check_counts(clicks, impressions)
    overall = kleinman(clicks, impressions)
    if overall is None:
        overall = BetaPrior(float(clicks.sum() / max(impressions.sum(), 1)), NO_SPREAD_STRENGTH)
    shown = np.flatnonzero(impressions > 0)
    names, place, sizes = np.unique(groups[shown], return_inverse=True, return_counts=True)
    members = np.split(shown[np.argsort(place, kind="stable")], np.cumsum(sizes)[:-1])
    priors = {
        str(name): prior
        for name, rows in zip(names, members, strict=False)
        if len(rows) >= MIN_ADS and (prior := kleinman(clicks[rows], impressions[rows])) is not None
    }
    weights = CtrWeights(mode, overall, priors)
    if mode != "ratio":
        return weights
    return replace(weights, scale=1 / float(weights.of(clicks, impressions, groups).mean()))


def kleinman(clicks: np.ndarray, impressions: np.ndarray) -> BetaPrior | None:
    """Beta prior by the moments of Kleinman (JASA 1973), ads weighted by impressions.

        W = sum n,  m = sum c / W,  V = sum n (c / n - m)^2,
        A = sum (1 - n / W),  D = sum n (1 - n / W),
        rho = (V - m (1 - m) A) / (m (1 - m) (D - A)),
        alpha = m (1 / rho - 1),  beta = (1 - m) (1 / rho - 1)

    rho is the correlation of two impressions of an ad, capped at `MAX_CORRELATION`.

    Args:
        clicks: int64[n], c.
        impressions: int64[n], n; ads without any are left out.

    Returns:
        None unless rho > 0: all ads may share one rate, or nothing can be told.
    """
    c, n = clicks[impressions > 0], impressions[impressions > 0].astype(np.float64)
    total = n.sum()
    m = c.sum() / max(total, 1.0)
    freedom = (1 - n / max(total, 1.0)).sum()
    spread = (n * (1 - n / max(total, 1.0))).sum() - freedom
    if not 0 < m < 1 or spread <= 0:
        return None
    chance = m * (1 - m)
    rho = ((n * (c / n - m) ** 2).sum() - chance * freedom) / (chance * spread)
    if rho <= 0:
        return None
    return BetaPrior(float(m), float(1 / min(rho, MAX_CORRELATION) - 1))


def check_counts(clicks: np.ndarray, impressions: np.ndarray) -> None:
    """Refuse counts that cannot be.

    Raises:
        DataError: D061, with the first row of which 0 <= clicks <= impressions does not hold.
    """
    bad = (clicks < 0) | (clicks > impressions)
    if bad.any():
        row = int(bad.argmax())
        raise refuse(
            "clicks",
            f"{int(bad.sum()):,} rows hold no count from 0 to their impressions (first at row"
            f" {{row}}: {clicks[row]:,} clicks in {impressions[row]:,} impressions)",
            "Count both over the same days, or leave the weight out.",
            "D061",
            row,
        )
