"""What a survival label is trained with: sums of a loss, and where its head starts."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from recsys_mtl.batches.batch import SurvivalTimes
from recsys_mtl.objectives.hazard import (
    daily_hazard_loss,
    exposures,
    grid_labels,
    two_term_loss,
)
from recsys_mtl.objectives.refit import newton_sums
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.model_config import HazardConfig, TwoGridConfig

Labels = tuple[Tensor, Tensor]
"""s and e of a grid (`grid_labels`)."""


class SurvivalObjective(Protocol):
    """Likelihood of a hazard head."""

    def loss(self, z: Tensor, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of the mean loss of B rows, whose logits are z."""
        ...

    def total(self, times: SurvivalTimes) -> Tensor:
        """The denominator alone, a scalar."""
        ...

    def counts(self, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """At risk float64[J] and stopped float64[Q, J] of rows that count: `marginal_logits`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DailyObjective:
    """`daily_hazard_loss`."""

    edges: Tensor
    """int64[J + 1]"""
    num_causes: int

    def loss(self, z: Tensor, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """As in `SurvivalObjective`."""
        return daily_hazard_loss(z, *self._exposures(times), times.weight)

    def total(self, times: SurvivalTimes) -> Tensor:
        """Sum of the weights."""
        return times.weight.sum()

    def counts(self, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """Days at risk and stops."""
        days, events = self._exposures(times)
        counted = times.weight > 0
        return days[counted].double().sum(0), events[counted].double().sum(0)

    def newton_sums(self, z: Tensor, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """`refit.newton_sums` of rows that count, whatever their weights."""
        counted = times.weight > 0
        days, events = self._exposures(times)
        return newton_sums(z[counted], days[counted], events[counted])

    def _exposures(self, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        return exposures(times.entry, times.exit, times.event, self.edges, self.num_causes)


@dataclass(frozen=True, slots=True, eq=False)
class TwoTermObjective:
    """`two_term_loss`; by which cause a row stopped is not looked at."""

    short: Tensor
    """int64[J_short + 1]"""
    long: Tensor
    """int64[J_long + 1]"""
    short_share: float

    def loss(self, z: Tensor, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """As in `SurvivalObjective`."""
        labels = self._labels(times, self.short), self._labels(times, self.long)
        num_short = len(self.short) - 1
        both = z[:, 0, :num_short], z[:, 0, num_short:]
        return two_term_loss(both, labels, times.weight, self.short_share)

    def total(self, times: SurvivalTimes) -> Tensor:
        """Rows that count."""
        return (times.weight > 0).sum().to(times.weight.dtype)

    def counts(self, times: SurvivalTimes) -> tuple[Tensor, Tensor]:
        """Rows at risk in each interval of both grids, and stops (Q = 1)."""
        counted = times.weight > 0
        grids = [self._labels(times, edges) for edges in (self.short, self.long)]
        survived, stopped = (
            torch.cat([grid[part][counted].double().sum(0) for grid in grids]) for part in (0, 1)
        )
        return survived + stopped, stopped[None]

    def _labels(self, times: SurvivalTimes, edges: Tensor) -> Labels:
        # A censored row has lived through its last day.
        time = times.exit + (times.event == 0)
        return grid_labels(time, times.event, edges, times.entry)


def survival_objective(config: HazardConfig, label: SurvivalLabel) -> SurvivalObjective:
    """The objective of a hazard head."""
    if isinstance(config, TwoGridConfig):
        return TwoTermObjective(
            torch.tensor(config.short), torch.tensor(config.long), config.short_share
        )
    return DailyObjective(torch.tensor(config.edges), label.num_causes)
