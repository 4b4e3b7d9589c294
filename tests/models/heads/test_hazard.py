"""Read-outs against vectors and day loops; heads' parameters, start and precision."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.testing import assert_close

from recsys_mtl.models.heads.hazard import (
    HazardHead,
    TwoGridHead,
    cumulative_incidence,
    daily_hazards,
    log_alive,
    log_survival,
    restricted_mean,
    stop_probability,
    window_days,
)

EDGES = torch.tensor([1, 3, 6])
WIDTHS = EDGES.diff()
Z = torch.tensor([[[-3.0, -4], [-4, -2]]])
SHORT, LONG = (1, 3, 5, 7, 10), (1, 10, 30, 60, 90, 120)


def close(actual: Tensor, expected: list) -> None:
    assert_close(actual, torch.tensor(expected), atol=1e-4, rtol=0)


def by_day(z: Tensor) -> tuple[list[float], list[list[float]]]:
    """Survival and stops by cause of every day of the grid, multiplied out in Python."""
    survival, stops, alive = [], [], 1.0
    for j, width in enumerate(WIDTHS.tolist()):
        odds = [math.exp(z[q, j]) for q in range(len(z))]
        for _ in range(width):
            stops.append([alive * x / (1 + sum(odds)) for x in odds])
            alive /= 1 + sum(odds)
            survival.append(alive)
    return survival, stops


def test_daily_probabilities() -> None:
    close(log_alive(Z).exp(), [[0.9362, 0.8668]])


def test_curves() -> None:
    survival = log_survival(log_alive(Z), WIDTHS).exp()
    incidence = cumulative_incidence(Z, WIDTHS)
    close(survival, [[0.8765, 0.5709]])
    close(incidence, [[[0.0903, 0.1267], [0.0332, 0.3024]]])


def test_restricted_mean_counts_the_day_of_the_stop() -> None:
    """3.8021 would be the sum of survival at the end of each day."""
    close(restricted_mean(log_alive(Z), WIDTHS), [4.2312])


def test_survival_per_interval() -> None:
    """Logits per interval count each interval once."""
    z = torch.tensor([[[-2.0, -1, 0, 1]]])
    close(log_survival(log_alive(z), torch.ones(4)).exp(), [[0.8808, 0.6439, 0.3220, 0.0866]])


@pytest.mark.parametrize("scale", [1, 10, 60])
def test_survival_and_incidence_sum_to_one(scale: int) -> None:
    z = (scale * torch.randn(20, 3, 2)).double()
    total = log_survival(log_alive(z), WIDTHS).exp() + cumulative_incidence(z, WIDTHS).sum(1)
    assert_close(total, torch.ones_like(total), atol=1e-14, rtol=0)


def test_read_outs_equal_a_loop_over_days() -> None:
    z = torch.randn(2, 2).double()
    survival, stops = by_day(z)
    ends = [1, 4]
    daily = log_alive(z[None])
    found = log_survival(daily, WIDTHS).exp()[0]
    assert_close(found, torch.tensor([survival[e] for e in ends], dtype=torch.float64))
    summed = torch.tensor(stops, dtype=torch.float64).cumsum(0)
    assert_close(cumulative_incidence(z[None], WIDTHS)[0], summed[ends].T)
    expected = 1 + sum(survival[:-1])
    assert_close(restricted_mean(daily, WIDTHS), torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("age", range(5))
@pytest.mark.parametrize("horizon", range(1, 6))
def test_windows_equal_a_loop_over_days(age: int, horizon: int) -> None:
    """Alive through `age`: what happens on days age + 1 to age + H, as far as the grid goes."""
    z = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], dtype=torch.float64)
    survival, stops = by_day(z)
    alive = [1.0, *survival]
    end = min(age + horizon, 5)
    stop = stop_probability(log_alive(z[None]), torch.tensor([age]), horizon, EDGES)
    assert_close(stop, torch.tensor([1 - alive[end] / alive[age]], dtype=torch.float64))
    days = window_days(torch.tensor([age]), horizon, EDGES)
    assert days.sum() == end - age
    by_cause = torch.tensor(stops[age:end], dtype=torch.float64).sum(0) / alive[age]
    assert_close(cumulative_incidence(z[None], days)[0, :, -1], by_cause)
    mean = torch.tensor([sum(alive[age:end]) / alive[age]], dtype=torch.float64)
    assert_close(restricted_mean(log_alive(z[None]), days), mean)


def test_windows_take_an_age_and_a_horizon_for_each_row_and_fractions() -> None:
    ages, horizons = torch.tensor([0.0, 1.5, 4.0]), torch.tensor([1.0, 2.0, 9.0])
    days = window_days(ages, horizons, EDGES)
    assert days.tolist() == [[1, 0], [0.5, 1.5], [0, 1]]


def test_intervals_of_a_two_grid_head_are_read_at_a_constant_daily_hazard() -> None:
    """Half of an interval is lived through with the root of its survival."""
    z = torch.tensor([[0.0, 1.0]])
    daily = log_alive(z[:, None]) / torch.tensor([2, 4])
    assert_close(log_survival(daily, torch.tensor([2, 4]))[0, 0].exp(), torch.tensor(0.5))
    stop = stop_probability(daily, torch.tensor([2]), 2, torch.tensor([1, 3, 7]))
    assert_close(stop, 1 - (1 - z[:, 1].sigmoid()).sqrt())


@pytest.mark.parametrize("size", [-1e4, -200.0, -60.0, 60.0, 1e4])
def test_read_outs_are_finite_at_extreme_logits(size: float) -> None:
    z = torch.full((1, 2, 2), size)
    daily = log_alive(z)
    survival, mean = log_survival(daily, WIDTHS).exp(), restricted_mean(daily, WIDTHS)
    stop = stop_probability(daily, torch.tensor([1]), 3, EDGES)
    alive = float(size < 0)
    assert_close(survival, torch.full((1, 2), alive))
    assert_close(mean, torch.tensor([5.0 if alive else 1.0]))
    assert_close(stop, torch.tensor([1 - alive]))
    assert_close(cumulative_incidence(z, WIDTHS), torch.full((1, 2, 2), (1 - alive) / 2))


def test_small_hazards_keep_their_digits() -> None:
    """3 days at 2 e^-60 in float32: 1 - S would be 0."""
    stop = stop_probability(log_alive(torch.full((1, 2, 2), -60.0)), torch.tensor([2]), 3, EDGES)
    assert_close(stop, torch.tensor([6 * math.exp(-60)]), atol=0, rtol=1e-5)


@pytest.mark.parametrize(("hidden", "parameters"), [((), 8 * 6 + 6), ((5,), 8 * 5 + 5 + 5 * 6 + 6)])
def test_parameters(hidden: tuple[int, ...], parameters: int) -> None:
    head = HazardHead(8, 2, 3, hidden)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert head(torch.randn(4, 8)).shape == (4, 2, 3)


def test_parameters_of_two_grids() -> None:
    head = TwoGridHead(8, 1, (SHORT, LONG), (5,))
    assert sum(p.numel() for p in head.parameters()) == 8 * 5 + 5 + 5 * 9 + 9
    assert head(torch.randn(4, 8)).shape == (4, 1, 9)


def test_a_new_head_is_about_the_marginal_model() -> None:
    """Linear weights are within .1 / sqrt(16), so |z - bias| <= .1 * 16 / 4 for |f| <= 1."""
    marginal = torch.tensor([[-3.0, -4, -5], [-6, -7, -8]])
    head = HazardHead(16, 2, 3, ())
    head.start_at(marginal)
    assert_close(head(torch.zeros(1, 16))[0], marginal)
    spread = head(2 * torch.rand(500, 16) - 1) - marginal
    assert 0.01 < spread.abs().max() < 0.4


def two_grid_logits() -> Tensor:
    """[2, 1, 4 + 5]: logits of intervals, the last row's so small that a softplus is 0."""
    z = torch.tensor([[-1.0, 0, 2, -3, 9, -2, -1, 0, 1], [-14, -16, -30, -50, 9, -60, -110, 2, 3]])
    return z[:, None]


def test_daily_hazards_of_two_grids_live_through_intervals_as_often() -> None:
    """S at the ends of intervals: the short grid's to day 10, then the long one's given that."""
    head, z = TwoGridHead(8, 1, (SHORT, LONG), ()), two_grid_logits()
    daily = head.daily(z)
    widths = torch.tensor([2, 2, 2, 3, 20, 30, 30, 30])
    alive = -softplus(torch.cat([z[..., :4], z[..., 5:]], dim=2)[:, 0].double())
    assert_close(
        log_survival(log_alive(daily.double()), widths), alive.cumsum(1), rtol=1e-5, atol=0
    )
    assert_close(daily[1, 0, 1:4], torch.tensor([-16.0, -30, -50]) - widths[1:4].log())


def test_two_grids_know_causes_by_age() -> None:
    z = two_grid_logits()
    one = TwoGridHead(8, 1, (SHORT, LONG), ()).daily(z)
    two = TwoGridHead(8, 2, (SHORT, LONG), ()).daily(z)
    assert_close(torch.cat([two[:, 0, :4], two[:, 1, 4:]], dim=1), one[:, 0])
    wrong = daily_hazards(two)
    assert torch.cat([wrong[:, 1, :4], wrong[:, 0, 4:]]).max() < 1e-30
    assert_close(log_alive(two), log_alive(one))


def test_two_grids_share_their_hidden_layer() -> None:
    head = TwoGridHead(3, 1, (SHORT, LONG), (2,))
    first = next(head.parameters())
    z = head(torch.randn(8, 3))
    for grid in (z[..., :4], z[..., 4:]):
        (gradient,) = torch.autograd.grad(grid.square().sum(), first, retain_graph=True)
        assert gradient.abs().max() > 0


def test_grids_are_no_part_of_a_checkpoint() -> None:
    head = TwoGridHead(3, 1, (SHORT, LONG), ())
    assert set(head.state_dict()) == {"body.0.weight", "body.0.bias"}


@pytest.mark.parametrize(
    "logits", [torch.zeros(3), torch.zeros(3, 2), torch.full((2, 3), -math.inf)]
)
def test_a_start_that_is_not_finite_or_of_another_shape_is_refused(logits: Tensor) -> None:
    with pytest.raises(ValueError, match="2 causes x 3 intervals of finite logits"):
        HazardHead(4, 2, 3, ()).start_at(logits)


def test_autocast_does_not_reach_inside() -> None:
    head = HazardHead(4, 2, 3, (5,))
    f = torch.randn(6, 4).bfloat16()
    expected = head(f.float())
    with torch.autocast("cpu", torch.bfloat16):
        z = head(f)
    assert z.dtype == torch.float32
    assert torch.equal(z, expected)
