"""Vectors of the paper's grids and of daily hazards; brute-force day loops; closed-form fits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from recsys_mtl.models.heads.hazard import cumulative_incidence, log_alive, log_survival
from recsys_mtl.objectives.hazard import (
    daily_hazard_loss,
    daily_hazard_nll,
    exposures,
    grid_labels,
    interval_nll,
    marginal_logits,
    two_term_loss,
)

SHORT = torch.tensor([1, 3, 5, 7, 10])
LONG = torch.tensor([1, 10, 30, 60, 90, 120])
GRID = torch.tensor([1, 3, 6])
"""Widths 2 and 3."""
Z_DAILY = torch.tensor([[[-3.0, -4], [-4, -2]]])
Z_SHORT = torch.tensor([[-2.0, -1, 0, 1], [0.5, -0.5, 0, 0], [-3, -3, -3, -3]])
Z_LONG = torch.tensor([[-1, -0.5, 0, 0.5, 1], [0.0, 0, 0, 0, 0], [-2, -2, -1, -1, 0]])
# Stop in short interval 2; stop in interval 0; alive beyond the short grid and long interval 1.
TIME, EVENT = torch.tensor([5, 1, 31]), torch.tensor([1, 1, 0])
LABELS = (grid_labels(TIME, EVENT, SHORT), grid_labels(TIME, EVENT, LONG))


def rows(*rows: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    entry, exit_, event = torch.tensor(rows).unbind(1)
    return entry, exit_, event


def random_rows(n: int, last: int, num_causes: int, seed: int = 0) -> tuple[Tensor, ...]:
    gen = torch.Generator().manual_seed(seed)
    entry = torch.randint(1, last + 1, (n,), generator=gen)
    exit_ = entry + (torch.rand(n, generator=gen) * (last + 1 - entry)).long()
    return entry, exit_, torch.randint(0, num_causes + 1, (n,), generator=gen)


def close(actual: Tensor, expected: list[float] | list[list[float]]) -> None:
    assert_close(actual, torch.tensor(expected), atol=1e-4, rtol=0)


# Production: days at risk by cause.


@pytest.mark.parametrize(
    ("row", "days", "nll"),
    [
        ((1, 4, 2), [2, 2], 2.4176),
        ((1, 4, 0), [2, 2], 0.4176),
        ((2, 5, 0), [1, 3], 0.4947),
    ],
)
def test_daily_vectors(row: tuple[int, int, int], days: list[float], nll: float) -> None:
    at_risk, events = exposures(*rows(row), GRID, 2)
    assert at_risk.tolist() == [days]
    assert events.sum() == (row[2] > 0)
    close(daily_hazard_nll(Z_DAILY, at_risk, events), [nll])


def test_the_stop_is_filed_under_its_cause_and_day() -> None:
    _, events = exposures(*rows((1, 1, 1), (1, 2, 1), (1, 3, 2), (1, 5, 2), (1, 5, 0)), GRID, 2)
    expected = [[[1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 1]]]
    assert events.tolist() == [*expected, [[0, 0], [0, 0]]]


def test_beyond_the_grid_a_row_is_censored_at_its_end() -> None:
    days, events = exposures(*rows((1, 6, 1), (4, 99, 1), (6, 9, 1), (0, 0, 1)), GRID, 1)
    assert days.tolist() == [[2, 3], [0, 2], [0, 0], [0, 0]]
    assert events.sum() == 0


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    first=st.integers(0, 2),
    row=st.tuples(st.integers(0, 14), st.integers(0, 6), st.integers(0, 2)),
    seed=st.integers(0, 99),
)
def test_likelihood_equals_a_loop_over_days(
    widths: list[int], first: int, row: tuple[int, int, int], seed: int
) -> None:
    edges = torch.tensor([first, *widths]).cumsum(0)
    entry, stay, event = row
    z = torch.randn(1, 2, len(widths), generator=torch.Generator().manual_seed(seed)).double()
    nll, in_grid = 0.0, 0
    for day in range(entry, entry + stay + 1):
        for j in range(len(widths)):
            if edges[j] <= day < edges[j + 1]:
                outcome = event if day == entry + stay else 0
                odds = [1.0, math.exp(z[0, 0, j]), math.exp(z[0, 1, j])]
                nll -= math.log(odds[outcome] / sum(odds))
                in_grid += 1
    days, events = exposures(*rows((entry, entry + stay, event)), edges, 2)
    assert days.sum() == in_grid
    assert (events.sum(1) <= days).all()
    found = daily_hazard_nll(z, days.double(), events.double())
    assert_close(found, torch.tensor([nll], dtype=torch.float64), atol=1e-10, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1, 10, 30]))
def test_probabilities_of_all_outcomes_sum_to_one(seed: int, scale: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    z = ((2 * torch.rand(2, 2, generator=gen) - 1) * scale).double()
    outcomes = [(1, day, cause) for day in range(1, 6) for cause in (1, 2)] + [(1, 5, 0)]
    counts = (x.double() for x in exposures(*rows(*outcomes), GRID, 2))
    total = daily_hazard_nll(z.expand(len(outcomes), 2, 2), *counts).neg().exp().sum()
    assert abs(float(total) - 1) < 1e-10
    stops, alive = torch.tensor([1, 3, 5, 7, 10]), torch.tensor([1, 1, 1, 1, 0])
    labels = (x.double() for x in grid_labels(stops, alive, SHORT))
    total = interval_nll(z.view(1, 4).expand(5, 4), *labels).neg().exp().sum()
    assert abs(float(total) - 1) < 1e-10


def test_gradient_is_expected_minus_observed_stops() -> None:
    days, events = (x.double() for x in exposures(*random_rows(50, 5, 2), GRID, 2))
    z = (3 * torch.randn(50, 2, 2)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(daily_hazard_nll(z, days, events).sum(), z)
    p = torch.cat([torch.zeros(50, 1, 2), z], 1).softmax(1)[:, 1:]
    assert_close(gradient, days[:, None] * p - events, atol=1e-12, rtol=0)


def test_censored_rows_teach_that_ads_live() -> None:
    """A batch without a stop is valid: its gradient is d p, and 0 where nobody was at risk."""
    days, events = exposures(*rows((1, 2, 0), (2, 2, 0)), GRID, 2)
    z = Z_DAILY.repeat(2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(daily_hazard_nll(z, days, events).sum(), z)
    close(gradient[0], [[2 * 0.0466, 0], [2 * 0.0171, 0]])
    close(gradient[1], [[0.0466, 0], [0.0171, 0]])


def test_without_causes_and_with_one_day_intervals_both_modes_agree() -> None:
    edges = torch.arange(1, 8)
    entry, exit_, event = random_rows(40, 9, 1)
    z = (3 * torch.randn(40, 6)).double()
    counts = (x.double() for x in exposures(torch.ones_like(entry), exit_, event, edges, 1))
    daily = daily_hazard_nll(z[:, None], *counts)
    alive_until = exit_ + (event == 0)
    labels = (x.double() for x in grid_labels(alive_until, event, edges))
    assert_close(daily, interval_nll(z, *labels), atol=1e-10, rtol=0)


# Weights, masks, sums over processes.


def test_loss_is_the_weighted_mean() -> None:
    """Vectors .4176 (censored) and 2.4176 (stop) with weights 3 and 1: (3 * .4176 + 2.4176) / 4."""
    counts = exposures(*rows((1, 4, 0), (1, 4, 2)), GRID, 2)
    z = Z_DAILY.repeat(2, 1, 1)
    total, weight = daily_hazard_loss(z, *counts, torch.tensor([3.0, 1.0]))
    assert weight == 4
    assert float(total / weight) == pytest.approx((3 * 0.4176 + 2.4176) / 4, abs=1e-4)


def test_sums_of_two_halves_are_the_sums_of_the_whole() -> None:
    days, events = (x.double() for x in exposures(*random_rows(31, 5, 2), GRID, 2))
    z, weight = torch.randn(31, 2, 2).double(), torch.rand(31).double()
    batch = (z, days, events, weight)
    whole = torch.stack(daily_hazard_loss(*batch))
    parts = [daily_hazard_loss(*(x[rank] for x in batch)) for rank in (slice(9), slice(9, 31))]
    empty = daily_hazard_loss(*(x[:0] for x in batch))
    assert_close(sum(map(torch.stack, parts), torch.stack(empty)), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_rows_with_weight_zero_do_not_exist(broken: float) -> None:
    days, events = exposures(*rows((1, 4, 2), (1, 4, 1)), GRID, 2)
    z = Z_DAILY.repeat(2, 1, 1)
    z[1] = broken
    z.requires_grad_()
    total, weight = daily_hazard_loss(z, days, events, torch.tensor([1.0, 0.0]))
    close(total / weight, 2.4176)
    (gradient,) = torch.autograd.grad(total, z)
    assert torch.isfinite(gradient).all()
    assert (gradient[1] == 0).all()


def test_rows_with_weight_zero_do_not_exist_in_two_terms() -> None:
    z = tuple(torch.cat([z, torch.full_like(z[:1], math.nan)]) for z in (Z_SHORT, Z_LONG))
    for logits in z:
        logits.requires_grad_()
    labels = tuple(tuple(torch.cat([x, x[:1]]) for x in grid) for grid in LABELS)
    total, num_rows = two_term_loss(z, labels, torch.tensor([1.04, 1, 1.01, 0]))
    assert num_rows == 3
    close(total / num_rows, 0.6941)
    for gradient in torch.autograd.grad(total, z):
        assert torch.isfinite(gradient).all()
        assert (gradient[3] == 0).all()


@pytest.mark.parametrize("size", [60.0, 200.0, 1e4])
def test_losses_and_gradients_are_finite_at_extreme_logits(size: float) -> None:
    signs = torch.tensor([[[a, b], [c, d]] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)
                          for d in (-1, 1)]).float()  # fmt: skip
    days, events = exposures(*rows(*[(1, 4, 2), (2, 5, 0), (1, 1, 1)] * 16), GRID, 2)
    z = (size * signs).repeat_interleave(3, 0).requires_grad_()
    nll = daily_hazard_nll(z, days, events)
    (gradient,) = torch.autograd.grad(nll.sum(), z)
    assert torch.isfinite(nll).all()
    assert (gradient.abs() <= days.max()).all()
    labels = grid_labels(torch.tensor([1, 3, 9, 10] * 12), torch.tensor([1, 0, 1] * 16), SHORT)
    nll = interval_nll(z.flatten(1), *labels)
    (gradient,) = torch.autograd.grad(nll.sum(), z)
    assert torch.isfinite(nll).all()
    assert (gradient.abs() <= 1).all()


# Marginal fits.


def test_marginal_fit_is_stops_over_days_at_risk() -> None:
    days, events = (x.double() for x in exposures(*random_rows(300, 5, 2), GRID, 2))
    logits = marginal_logits(days.sum(0), events.sum(0), smoothing=0)
    p = torch.cat([torch.zeros(1, 2), logits]).softmax(0)
    assert_close(p[1:], events.sum(0) / days.sum(0), atol=1e-12, rtol=0)
    z = logits.requires_grad_()
    nll = daily_hazard_nll(z.expand(300, 2, 2), days, events).sum()
    (gradient,) = torch.autograd.grad(nll, z)
    assert gradient.abs().max() < 1e-10


def test_marginal_logits_are_finite_where_nothing_stopped() -> None:
    """log(.5 / (10 - 2 + 1)), log(2.5 / 9); nobody at risk: log(.5 / 1)."""
    logits = marginal_logits(torch.tensor([10.0, 0]), torch.tensor([[0.0, 0], [2, 0]]))
    expected = torch.tensor([[0.5 / 9, 0.5], [2.5 / 9, 0.5]]).log()
    assert_close(logits, expected)


def test_marginal_incidence_is_that_of_aalen_and_johansen() -> None:
    """One-day intervals and late entry: products and sums over days, by hand."""
    last, edges = 6, torch.arange(1, 8)
    entry, exit_, event = random_rows(500, last, 2)
    days, events = (x.double() for x in exposures(entry, exit_, event, edges, 2))
    z = marginal_logits(days.sum(0), events.sum(0), smoothing=0)[None]
    alive, incidence = 1.0, [0.0, 0.0]
    survival, by_day = [], []
    for day in range(1, last + 1):
        at_risk = int(((entry <= day) & (day <= exit_)).sum())
        stops = [int(((exit_ == day) & (event == q)).sum()) for q in (1, 2)]
        incidence = [c + alive * s / at_risk for c, s in zip(incidence, stops, strict=True)]
        alive *= 1 - sum(stops) / at_risk
        survival.append(alive)
        by_day.append(incidence)
    found = cumulative_incidence(z, edges.diff())[0].T
    assert_close(found, torch.tensor(by_day, dtype=torch.float64), atol=1e-6, rtol=0)
    found = log_survival(log_alive(z), edges.diff())[0].exp()
    assert_close(found, torch.tensor(survival, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_event_term_keeps_the_fitted_hazard_of_intervals_above_zero() -> None:
    """The loss as the precursor prints it has its optimum at hazard 0."""
    time, event = torch.arange(200) % 13 + 1, torch.arange(200) % 5
    survived, stopped = (x.double() for x in grid_labels(time, event, SHORT))
    assert (stopped.sum(0) > 5).all()
    z = torch.zeros(1, 4).double().requires_grad_()
    optimiser = torch.optim.LBFGS([z], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = interval_nll(z.expand(200, 4), survived, stopped).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    hazards = stopped.sum(0) / (survived + stopped).sum(0)
    assert_close(z.detach()[0].sigmoid(), hazards, atol=1e-5, rtol=0)
    start = marginal_logits((survived + stopped).sum(0), stopped.sum(0)[None], smoothing=0)[0]
    assert_close(start.sigmoid(), hazards, atol=1e-12, rtol=0)


# The paper's two grids.


@pytest.mark.parametrize(
    ("time", "event", "short", "long"),
    [
        (2, 1, "0000/1000", "00000/10000"),
        (3, 1, "1000/0100", "00000/10000"),
        (4, 0, "1100/0000", "00000/00000"),
        (8, 0, "1110/0000", "10000/00000"),
        (10, 1, "1111/0000", "10000/01000"),
        (30, 0, "1111/0000", "11000/00000"),
        (120, 1, "1111/0000", "11111/00000"),
        (0, 1, "0000/0000", "00000/00000"),
        (0, 0, "0000/0000", "00000/00000"),
    ],
)
def test_label_table(time: int, event: int, short: str, long: str) -> None:
    for edges, expected in ((SHORT, short), (LONG, long)):
        labels = grid_labels(torch.tensor([time]), torch.tensor([event]), edges)
        found = "/".join("".join(str(int(x)) for x in part[0]) for part in labels)
        assert found == expected


def test_half_of_an_interval_counts_as_survived() -> None:
    """[7, 10) has its middle at 8.5."""
    survived, _ = grid_labels(torch.tensor([8.4, 8.5]), torch.tensor([False, False]), SHORT)
    assert survived[:, 3].tolist() == [0, 1]


def test_interval_vectors() -> None:
    close(interval_nll(Z_SHORT, *LABELS[0]), [1.1333, 0.4741, 0.1943])
    close(interval_nll(Z_LONG, *LABELS[1])[1:], [0.6931, 0.2539])
    # Stops of the two grids in this vector are not of one and the same ad.
    stop_in_0 = grid_labels(torch.tensor([1]), torch.tensor([1]), LONG)
    close(interval_nll(Z_LONG[:1], *stop_in_0), [1.3133])


def test_interval_gradient() -> None:
    z = Z_SHORT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(interval_nll(z, *LABELS[0]).sum(), z)
    close(gradient[:2], [[0.1192, 0.2689, -0.5, 0], [-0.3775, 0, 0, 0]])


def test_interval_gradient_in_closed_form() -> None:
    survived, stopped = (x.double() for x in grid_labels(*random_rows(60, 12, 1)[1:], SHORT))
    z = (3 * torch.randn(60, 4)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(interval_nll(z, survived, stopped).sum(), z)
    assert_close(gradient, (survived + stopped) * z.sigmoid() - stopped, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("short_share", "loss"), [(0.5, 0.6941), (0.3, 0.7251)])
def test_two_term_vectors(short_share: float, loss: float) -> None:
    weight = 1 + torch.tensor([0.04, 0, 0.01])
    total, num_rows = two_term_loss((Z_SHORT, Z_LONG), LABELS, weight, short_share)
    close(total / num_rows, loss)


def test_two_terms_weight_the_whole_likelihood_of_a_creative() -> None:
    """Twice the weight, twice the row's gradient: rows are counted, not weighted, below."""

    def gradients(weight: list[float]) -> tuple[Tensor, Tensor]:
        z = (Z_SHORT.clone().requires_grad_(), Z_LONG.clone().requires_grad_())
        total, num_rows = two_term_loss(z, LABELS, torch.tensor(weight))
        short, long = torch.autograd.grad(total / num_rows, z)
        return short, long

    for plain, heavy in zip(gradients([1, 1, 1]), gradients([2, 1, 2]), strict=True):
        assert_close(heavy, plain * torch.tensor([[2.0], [1.0], [2.0]]))


def test_intervals_that_began_before_the_entry_do_not_count() -> None:
    """Rows enter on day 4: [1, 3) is over and [3, 5) has begun, so only [5, 7) and [7, 10) are."""
    time, event = torch.tensor([8, 4, 10]), torch.tensor([1, 1, 0])
    survived, stopped = grid_labels(time, event, SHORT, torch.full((3,), 4))
    assert survived.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert stopped.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    from_start = grid_labels(time, event, SHORT, torch.ones(3, dtype=torch.int64))
    for found, expected in zip(from_start, grid_labels(time, event, SHORT), strict=True):
        assert torch.equal(found, expected)
