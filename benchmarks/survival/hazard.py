"""The hazard head on a small trunk, trained on lifetimes or on who is alive at one age."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.survival.data import Sample, hold_out
from recsys_mtl.metrics.survival.curves import kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.models.heads.hazard import HazardHead, log_alive, restricted_mean, window_days
from recsys_mtl.models.layers import BatchNorm
from recsys_mtl.objectives.hazard import daily_hazard_nll, exposures, marginal_logits

_MAX_EPOCHS = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """Trunk and training, chosen by cross-validation inside the training rows."""

    num_intervals: int = 20
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.3
    lr: float = 2e-3
    l2: float = 2e-2
    batch_rows: int = 256
    valid_share: float = 0.2
    patience: int = 15
    """Epochs without a lower validation loss before training stops."""


class HazardModel(nn.Module):
    """Trunk and head, and what is read from them.

    Args:
        in_dim: covariates (p).
        edges: int64[J + 1], ages in days.
        recipe: of the trunk.
    """

    def __init__(self, in_dim: int, edges: Tensor, recipe: Recipe) -> None:
        super().__init__()
        self.edges = edges
        layers: list[nn.Module] = []
        for width in recipe.hidden:
            layers += [nn.Linear(in_dim, width), nn.ReLU(), BatchNorm(width)]
            layers += [nn.Dropout(recipe.dropout)]
            in_dim = width
        self.trunk = nn.Sequential(*layers)
        self.head = HazardHead(in_dim, 1, len(edges) - 1, ())

    def forward(self, x: Tensor) -> Tensor:
        """Logits float32[B, 1, J]."""
        return cast(Tensor, self.head(self.trunk(x)))

    @torch.no_grad()
    def daily(self, x: np.ndarray) -> Tensor:
        """float64[n, J]: log-probability that a day passes without a stop."""
        return log_alive(self.eval()(_float(x))).double()

    def survival(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        """float64[n, m]: S(t | x) at ages `times` in days; nobody stops beyond the grid."""
        found: np.ndarray = torch.exp(self.daily(x) @ self._window(0 * times, times).T).numpy()
        return found

    def risk(self, x: np.ndarray, horizon: float) -> np.ndarray:
        """float64[n]: 1 - RMST / H over the first H days, in [0, 1]."""
        days = self._window(np.zeros(len(x)), np.full(len(x), horizon))
        found: np.ndarray = 1 - restricted_mean(self.daily(x), days).numpy() / horizon
        return found

    def stop_probability(self, x: np.ndarray, alive: np.ndarray, until: np.ndarray) -> np.ndarray:
        """float64[n]: P(stop by age `until` | alive at age `alive`)."""
        through = (self.daily(x) * self._window(alive, until)).sum(1)
        found: np.ndarray = -torch.expm1(through).numpy()
        return found

    def _window(self, age: np.ndarray, until: np.ndarray) -> Tensor:
        start, end = (torch.tensor(part, dtype=torch.float64) for part in (age, until))
        return window_days(start, end - start, self.edges)


def fit_hazard(sample: Sample, recipe: Recipe, seed: int) -> HazardModel:
    """Train on lifetimes by the likelihood of daily hazards.

    Args:
        sample: training rows. A share of them, drawn by `seed`, is held out for early stopping.
        recipe: trunk and training.
        seed: of the held-out rows, initial weights, batches and dropout.
    """
    torch.manual_seed(seed)
    held = hold_out(sample.outcomes, recipe.valid_share, np.random.default_rng(seed))
    edges = quantile_edges(sample.outcomes.take(~held), recipe.num_intervals)
    day = torch.tensor(np.ceil(sample.outcomes.time).astype(np.int64))
    event = torch.tensor(sample.outcomes.event).long()
    days, events = exposures(torch.ones_like(day), day, event, edges, 1)
    x = _float(sample.x)
    model = HazardModel(sample.x.shape[1], edges, recipe)
    model.head.start_at(marginal_logits(days[~held].sum(0), events[~held].sum(0)))
    _train(model, lambda i: daily_hazard_nll(model(x[i]), days[i], events[i]), held, recipe)
    return model


def fit_current_status(
    x: np.ndarray, age: np.ndarray, alive: np.ndarray, recipe: Recipe, seed: int
) -> HazardModel:
    """Train on whether each row is alive at one age, when the stop lies somewhere before it.

        nll = -[a log S(age) + (1 - a) log(1 - S(age))]

    Args:
        x: float64[n, p].
        age: float64[n], days since the start.
        alive: bool[n], a.
        recipe: trunk and training; edges are quantiles of `age`.
        seed: as for `fit_hazard`.
    """
    torch.manual_seed(seed)
    held = hold_out(Outcomes(age, ~alive), recipe.valid_share, np.random.default_rng(seed))
    inner = np.quantile(age[~held], np.linspace(0, 1, recipe.num_intervals + 1)[1:])
    edges = torch.tensor(np.unique(np.append(1, np.ceil(inner).astype(np.int64) + 1)))
    model = HazardModel(x.shape[1], edges, recipe)
    constant = -np.log(alive[~held].mean()) / age[~held].mean()
    model.head.start_at(torch.full((1, len(edges) - 1), float(np.log(constant))))
    inputs, days = _float(x), model._window(0 * age, age).float()
    is_alive = torch.tensor(alive)

    def nll(rows: Tensor) -> Tensor:
        # Away from 0, where log(1 - S) is not finite: a row that has not lived yet.
        log_s = (log_alive(model(inputs[rows])) * days[rows]).sum(1).clamp(max=-1e-6)
        return -torch.where(is_alive[rows], log_s, torch.log(-torch.expm1(log_s)))

    _train(model, nll, held, recipe)
    return model


def quantile_edges(outcomes: Outcomes, num: int) -> Tensor:
    """Edges int64[J + 1], J <= `num`, between which the Kaplan-Meier curve falls by equal steps.

    The first day is day 1; the last edge is the day after the last one observed. Steps that end
    on one day are one.
    """
    curve = kaplan_meier(outcomes)
    steps = np.linspace(1, curve.values[-1], num + 1)[1:-1]
    inner = np.ceil(curve.times[np.searchsorted(-curve.values, -steps)]) + 1
    last = np.ceil(outcomes.time.max()) + 1
    return torch.tensor(np.unique(np.concatenate([[1], inner, [last]])).astype(np.int64))


def _train(
    model: HazardModel, nll: Callable[[Tensor], Tensor], held: np.ndarray, recipe: Recipe
) -> None:
    """Minimise the mean of `nll` (row numbers -> nats per row); keep the best on `held` rows."""
    valid, rows = torch.tensor(np.flatnonzero(held)), torch.tensor(np.flatnonzero(~held))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=recipe.l2)
    lowest, best, since = float("inf"), model.state_dict(), 0
    for _ in range(_MAX_EPOCHS):
        model.train()
        for batch in rows[torch.randperm(len(rows))].split(recipe.batch_rows):
            optimizer.zero_grad()
            nll(batch).mean().backward()
            optimizer.step()
        with torch.no_grad():
            model.eval()
            loss = nll(valid).mean().item()
        if loss < lowest:
            lowest, best, since = loss, copy.deepcopy(model.state_dict()), 0
        elif (since := since + 1) == recipe.patience:
            break
    model.load_state_dict(best)


def _float(x: np.ndarray) -> Tensor:
    return torch.tensor(x, dtype=torch.float32)
