"""Objectives of hazard heads: sums, denominators, and the marginal fit a head starts at."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recsys_mtl.batches.batch import SurvivalTimes
from recsys_mtl.models.heads.hazard import HazardHead, TwoGridHead
from recsys_mtl.objectives.hazard import marginal_logits
from recsys_mtl.objectives.survival import SurvivalObjective, survival_objective
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.model_config import DailyHazardConfig, HazardConfig, TwoGridConfig

DAILY, PAPER = DailyHazardConfig(), TwoGridConfig(short_share=0.3)
LABEL = SurvivalLabel(
    name="stop",
    entry="a",
    exit="b",
    event="c",
    cause="d",
    causes=("cut_out", "wear_out"),
    horizons=(7,),
)


def random_times(rows: int, seed: int = 0) -> SurvivalTimes:
    """Some enter late, leave the grid or have no label."""
    draw = torch.Generator().manual_seed(seed)
    entry = torch.randint(1, 12, (rows,), generator=draw)
    exit_ = entry + torch.randint(0, 130, (rows,), generator=draw)
    stopped = torch.rand(rows, generator=draw) < 0.6
    event = torch.where(stopped, torch.where(exit_ < 10, 1, 2), 0)
    weight = 1 + torch.rand(rows, generator=draw, dtype=torch.float64)
    weight[::7] = 0
    return SurvivalTimes(entry, exit_, event, weight)


def logits(config: HazardConfig, rows: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    shape = (rows, 1, 9) if config is PAPER else (rows, 2, 8)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def fitted(objective: SurvivalObjective, z: Tensor, times: SurvivalTimes) -> Tensor:
    """Logits, the same for all rows, with the lowest loss."""
    z = z.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [z], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        total, count = objective.loss(z.expand(len(times.exit), -1, -1), times)
        (total / count).backward()
        return total / count

    optimiser.step(closure)
    return z.detach()


def test_the_paper_s_reference_value() -> None:
    """Creatives that stop on days 5 and 1, and one censored after day 30."""
    z_short = torch.tensor([[-2.0, -1, 0, 1], [0.5, -0.5, 0, 0], [-3, -3, -3, -3]])
    z_long = torch.tensor([[-1, -0.5, 0, 0.5, 1], [0.0, 0, 0, 0, 0], [-2, -2, -1, -1, 0]])
    z = torch.cat([z_short, z_long], dim=1)[:, None]
    weight = 1 + torch.tensor([0.04, 0, 0.01])
    times = SurvivalTimes(
        torch.ones(3, dtype=torch.int64), torch.tensor([5, 1, 30]), torch.tensor([1, 1, 0]), weight
    )
    for share, expected in ((0.5, 0.6941), (0.3, 0.7251)):
        total, count = survival_objective(TwoGridConfig(short_share=share), LABEL).loss(z, times)
        assert_close(total / count, torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [DAILY, PAPER])
def test_the_denominator_is_the_loss_s(config: HazardConfig) -> None:
    objective, times = survival_objective(config, LABEL), random_times(40)
    _, count = objective.loss(logits(config, 40), times)
    assert_close(objective.total(times).double(), count.double())


@pytest.mark.parametrize("config", [DAILY, PAPER])
def test_counts_give_the_best_fit_without_features(config: HazardConfig) -> None:
    """Equal weights, since counts are of rows. Cells in which nothing stops are left out."""
    objective, times = survival_objective(config, LABEL), random_times(4000)
    times = SurvivalTimes(times.entry, times.exit, times.event, (times.weight > 0).double())
    at_risk, stops = objective.counts(times)
    expected = marginal_logits(at_risk, stops, smoothing=0)
    found = fitted(objective, torch.zeros(1, *expected.shape, dtype=torch.float64), times)[0]
    seen = stops > 0
    assert seen.sum() >= 8
    assert_close(found[seen], expected[seen], atol=1e-3, rtol=0)


def test_heads_start_where_their_objective_says() -> None:
    for config, head in (
        (DAILY, HazardHead(3, 2, 8, ())),
        (PAPER, TwoGridHead(3, 2, (PAPER.short, PAPER.long), ())),
    ):
        head.start_at(
            marginal_logits(*survival_objective(config, LABEL).counts(random_times(500))).float()
        )
        assert head.daily(head(torch.zeros(1, 3))).shape == (1, 2, 8)
