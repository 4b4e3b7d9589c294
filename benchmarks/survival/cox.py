"""Linear Cox regression: the baseline that a survival head has to beat."""

from dataclasses import dataclass

import numpy as np

from recsys_mtl.metrics.ranks import run_starts
from recsys_mtl.metrics.survival.curves import StepCurve
from recsys_mtl.metrics.survival.outcomes import Outcomes

_MAX_STEPS = 25
_TOLERANCE = 1e-6
"""Of a step, in units of x beta. Where columns separate the stops, every step is about 1."""


@dataclass(frozen=True, slots=True, eq=False)
class CoxModel:
    """h(t | x) = h_0(t) exp((x - c) beta)."""

    beta: np.ndarray
    """float64[p]."""
    center: np.ndarray
    """float64[p], c: the mean of the rows of the fit."""
    log_likelihood: float
    """Partial, at `beta`."""
    baseline: StepCurve
    """Survival at x = c."""

    def risk(self, x: np.ndarray) -> np.ndarray:
        """float64[n]: (x - c) beta, higher stops sooner."""
        found: np.ndarray = (x - self.center) @ self.beta
        return found

    def survival(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        """float64[n, m]: S(t | x) = S_0(t)^exp((x - c) beta) at `times`."""
        found: np.ndarray = self.baseline.at(times) ** np.exp(self.risk(x))[:, None]
        return found


def fit_cox(x: np.ndarray, outcomes: Outcomes) -> CoxModel:
    """Maximise the partial likelihood, ties after Efron, by Newton's method.

        l(beta) = sum over stop times u [ sum_{i in D_u} x_i beta
                  - sum_{l < d_u} log( sum_{k in R_u} w_k - l / d_u sum_{k in D_u} w_k ) ]

    with w = exp(x beta), D_u the d_u rows that stop at u and R_u those at risk. The baseline is
    Breslow's, S_0(t) = exp(-sum_{u <= t} d_u / sum_{R_u} w).

    Args:
        x: float64[n, p]; columns that depend on each other share their effect.
        outcomes: of the same n rows, without late entry and weights.

    Raises:
        ValueError: with late entry or weights, or where the maximum is not reached.
    """
    if outcomes.entry is not None or outcomes.weight is not None:
        raise ValueError("fit_cox knows neither late entry nor weights")
    center = x.mean(axis=0)
    order = np.argsort(outcomes.time, kind="stable")
    sweep = _Sweep.of((x - center)[order], outcomes.take(order))
    beta = np.zeros(x.shape[1])
    value, gradient, information = sweep.derivatives(beta)
    for _ in range(_MAX_STEPS):
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        if np.abs(sweep.x @ step).max() < _TOLERANCE:
            return CoxModel(beta, center, value, sweep.baseline(beta))
        while (found := sweep.derivatives(beta + step))[0] < value:
            step = step / 2
        beta = beta + step
        value, gradient, information = found
    raise ValueError(f"no maximum within {_MAX_STEPS} Newton steps; look for separating columns")


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """Rows by rising time, and the stops among them."""

    x: np.ndarray
    outcomes: Outcomes
    stops: np.ndarray
    """int64[s], rows that stop."""
    groups: np.ndarray
    """int64[g], first stop of each stop time."""
    group_of: np.ndarray
    """int64[s], number of the stop time of each stop."""
    first_at_risk: np.ndarray
    """int64[g], first row at risk at each stop time; later rows are at risk too."""

    @classmethod
    def of(cls, x: np.ndarray, outcomes: Outcomes) -> "_Sweep":
        stops = np.flatnonzero(outcomes.event)
        groups = run_starts(outcomes.time[stops])
        sizes = np.diff(groups, append=len(stops))
        first = np.searchsorted(outcomes.time, outcomes.time[stops[groups]], "left")
        return cls(x, outcomes, stops, groups, np.repeat(np.arange(len(groups)), sizes), first)

    def derivatives(self, beta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Log-likelihood, its gradient float64[p] and negative Hessian float64[p, p]."""
        eta = self.x @ beta
        wx = np.exp(eta)[:, None] * np.column_stack([np.ones(len(eta)), self.x])
        place = np.arange(len(self.stops)) - self.groups[self.group_of]
        size = np.bincount(self.group_of)[self.group_of]
        share = (place / size)[:, None]
        sums = self._sums(wx, share)
        mean = sums[:, 1:] / sums[:, :1]
        value = float(eta[self.stops].sum() - np.log(sums[:, 0]).sum())
        gradient = (self.x[self.stops] - mean).sum(axis=0)
        p = len(beta)
        squares = (wx[:, 1:, None] * self.x[:, None]).reshape(len(eta), p * p)
        second = (self._sums(squares, share) / sums[:, :1]).sum(axis=0).reshape(p, p)
        return value, gradient, second - mean.T @ mean

    def _sums(self, values: np.ndarray, share: np.ndarray) -> np.ndarray:
        """float64[s, k]: sums over the rows at risk at each stop, less its share of the ties."""
        at_risk = np.cumsum(values[::-1], axis=0)[::-1][self.first_at_risk]
        tied = np.add.reduceat(values[self.stops], self.groups, axis=0)
        found: np.ndarray = at_risk[self.group_of] - share * tied[self.group_of]
        return found

    def baseline(self, beta: np.ndarray) -> StepCurve:
        w = np.exp(self.x @ beta)
        at_risk = np.cumsum(w[::-1])[::-1][self.first_at_risk]
        hazard = np.cumsum(np.bincount(self.group_of) / at_risk)
        times = self.outcomes.time[self.stops[self.groups]]
        return StepCurve(times, np.exp(-hazard), float(self.outcomes.time[-1]))
