"""The paper's two terms against one: small networks on the same rows, inputs and schedule.

Rows are creatives on their first day (landmark and entry 1), as in the paper, whose grids start
there; its features of the first days are left out, for they reach past early stops.

    two terms   short grid 1 3 5 7 10 and long grid 1 10 30 60 90 120, lambda = 1/2
    one term    the union of both grids, one likelihood
    daily       the same union, daily hazards with exact exposures (production mode)

Two terms are read out as one curve: the short grid until day 10, then the long one's given that.
Long C is that of the rows which reach day 10, by the curve from there on.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from benchmarks.ads.features import Matrices, score_columns
from benchmarks.ads.measure import EDGES, LandmarkRows, concordance, life_of, risks
from recsys_mtl.batches.batch import SurvivalTimes
from recsys_mtl.models.heads.hazard import HazardHead, TwoGridHead, log_alive
from recsys_mtl.objectives.hazard import (
    daily_hazard_nll,
    exposures,
    grid_labels,
    interval_nll,
    marginal_logits,
)
from recsys_mtl.objectives.survival import TwoTermObjective
from recsys_mtl.simulate.ads_hazards import WEAR_OUT_AGE

SHORT, LONG = (1, 3, 5, 7, 10), (1, 10, 30, 60, 90, 120)
TERMS = ("two terms", "one term", "daily")
_HIDDEN, _BATCH, _EPOCHS, _PATIENCE, _LR, _DECAY = (64,), 256, 20, 3, 1e-3, 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    x: Tensor
    exit: Tensor
    event: Tensor
    """0 or 1."""

    def take(self, rows: Tensor) -> "_Data":
        return _Data(self.x[rows], self.exit[rows], self.event[rows])

    @property
    def times(self) -> SurvivalTimes:
        """From the first day on."""
        return SurvivalTimes(
            torch.ones_like(self.exit), self.exit, self.event, torch.ones(len(self.x))
        )

    def labels(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        # A censored row has lived through its last day.
        return grid_labels(self.exit + (self.event == 0), self.event, edges)


class _TwoTerms(nn.Module):
    """One hidden layer below the paper's two grids."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.head = TwoGridHead(in_dim, 1, (SHORT, LONG), _HIDDEN)
        self.objective = TwoTermObjective(torch.tensor(SHORT), torch.tensor(LONG), 0.5)

    def start(self, data: _Data) -> None:
        """At the marginal hazards."""
        self.head.start_at(marginal_logits(*self.objective.counts(data.times)).float())

    def loss(self, data: _Data) -> Tensor:
        """Mean over rows."""
        total, count = self.objective.loss(self.head(data.x), data.times)
        return total / count

    def log_alive_daily(self, x: Tensor) -> Tensor:
        """Log-probability to live through a day of each interval of `EDGES`, float64[B, J]."""
        return log_alive(self.head.daily(self.head(x)).double())


class _OneTerm(nn.Module):
    """One hidden layer below one grid; hazards per interval, or per day where `is_daily`."""

    def __init__(self, in_dim: int, is_daily: bool) -> None:
        super().__init__()
        self.is_daily = is_daily
        self.head = HazardHead(in_dim, 1, len(EDGES) - 1, _HIDDEN)

    def start(self, data: _Data) -> None:
        """At the marginal hazards."""
        if self.is_daily:
            days, events = _exposures(data)
            self.head.start_at(marginal_logits(days.sum(0), events.sum(0)))
        else:
            self.head.start_at(_marginal(*data.labels(EDGES)))

    def loss(self, data: _Data) -> Tensor:
        """Mean over rows."""
        z = self.head(data.x)
        if self.is_daily:
            return daily_hazard_nll(z, *_exposures(data)).mean()
        return interval_nll(z[:, 0], *data.labels(EDGES)).mean()

    def log_alive_daily(self, x: Tensor) -> Tensor:
        """As in `_TwoTerms`."""
        found = log_alive(self.head(x).double())
        return found if self.is_daily else found / EDGES.diff()


_Net = _TwoTerms | _OneTerm


def _net(kind: str, in_dim: int) -> _Net:
    return _TwoTerms(in_dim) if kind == "two terms" else _OneTerm(in_dim, kind == "daily")


def _exposures(data: _Data) -> tuple[Tensor, Tensor]:
    return exposures(torch.ones_like(data.exit), data.exit, data.event, EDGES, 1)


def _marginal(survived: Tensor, stopped: Tensor) -> Tensor:
    return marginal_logits((survived + stopped).sum(0), stopped.sum(0)[None])


def compare(rows: pa.Table, matrices: Matrices, seed: int) -> dict[str, dict[str, float | None]]:
    """C of all terms by scope, on the test rows.

    Args:
        rows: of a landmarks artifact.
        matrices: of the same rows.
        seed: of weights and order.
    """
    first = (rows["landmark"].to_numpy() == 1) & (rows["entry"].to_numpy() == 1)
    rows, matrices = rows.filter(pa.array(first)), matrices.take(first)
    part = np.array(rows["part"].to_pylist())
    x = _inputs(rows, matrices, part == "train")
    test = LandmarkRows.of(rows).take(part == "test")
    reach = test.exit >= WEAR_OUT_AGE
    late = replace(test.take(reach), entry=np.full(int(reach.sum()), WEAR_OUT_AGE))
    found: dict[str, dict[str, float | None]] = {}
    for kind in TERMS:
        daily = _fit(kind, x, rows, seed)
        early_risk = risks(life_of(daily, EDGES, test.entry), test)
        late_risk = risks(life_of(daily[torch.from_numpy(reach)], EDGES, late.entry), late)
        found[kind] = {
            "short": concordance(early_risk["short"], test, "short").value,
            "long": concordance(late_risk["long"], late, "long").value,
            "overall": concordance(early_risk["overall"], test, "overall").value,
        }
    return found


def _inputs(rows: pa.Table, matrices: Matrices, train: np.ndarray) -> np.ndarray:
    """float64[B, D], standardised: words, image, genre, advertiser."""
    scores = score_columns(rows, matrices, train)
    x = np.column_stack([matrices.words, matrices.image, matrices.genre, scores[:, 1]])
    found: np.ndarray = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    return found


def _fit(kind: str, x: np.ndarray, rows: pa.Table, seed: int) -> Tensor:
    """Train, keep the epoch with the best validation loss, and predict the test rows' days."""
    torch.manual_seed(seed)
    part = np.array(rows["part"].to_pylist())
    parts = LandmarkRows.of(rows)
    exit_, event = torch.from_numpy(parts.exit), torch.from_numpy((parts.event > 0).astype(int))
    data = _Data(torch.from_numpy(x).float(), exit_, event)
    train, valid, test = (
        data.take(torch.from_numpy(part == name)) for name in ("train", "valid", "test")
    )
    net = _net(kind, x.shape[1])
    net.start(train)
    _train(net, train, valid)
    with torch.no_grad():
        return net.log_alive_daily(test.x)


def _train(net: _Net, train: _Data, valid: _Data) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), _LR, weight_decay=_DECAY)
    best, best_state, since = float("inf"), net.state_dict(), 0
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(train.x)).split(_BATCH):
            optimiser.zero_grad()
            net.loss(train.take(rows)).backward()
            optimiser.step()
        with torch.no_grad():
            found = float(net.loss(valid))
        if found < best:
            best, since = found, 0
            best_state = {name: value.clone() for name, value in net.state_dict().items()}
        else:
            since += 1
        if since == _PATIENCE:
            break
    net.load_state_dict(best_state)
