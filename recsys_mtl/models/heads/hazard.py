"""Hazard heads, and the survival curves that follow from their logits."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from recsys_mtl.models.layers import mlp

_SMALL = -15.0
"""Logit below which log(1 + e^z) is e^z to the last digit of float32, or nearly."""
_NEVER = -80.0
"""Logit of what does not happen, whose probability float32 still holds."""


class HazardHead(nn.Module):
    """z = MLP(f), a logit for each cause of a stop on a day of each interval of age.

    On every day of interval j, [p_alive, p_1, ..., p_Q] = softmax([0, z_1j, ..., z_Qj]). The last
    layer's weights start at a tenth of their usual size and its bias where `start_at` says, so a
    new head predicts about the marginal hazard for every row. Autocast does not reach inside: in
    bfloat16 a hazard next to 1 or 0 would round to it.

    Shapes: [B, D] -> float32[B, Q, J].

    Cost: parameters mlp(D; hidden; Q J).

    Args:
        in_dim: width of f (D).
        num_causes: Q.
        num_intervals: J.
        hidden: widths between f and z.
    """

    def __init__(
        self, in_dim: int, num_causes: int, num_intervals: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.num_causes = num_causes
        self.num_intervals = num_intervals
        self.body = mlp(in_dim, hidden, num_causes * num_intervals)
        with torch.no_grad():
            self._last.weight.mul_(0.1)

    def forward(self, f: Tensor) -> Tensor:
        """Logits float32[B, Q, J]."""
        with torch.autocast(f.device.type, enabled=False):
            z: Tensor = self.body(f.to(self._last.weight.dtype))
        return z.view(len(z), self.num_causes, self.num_intervals)

    def daily(self, z: Tensor) -> Tensor:
        """Logits per day, float32[B, Q, J], of what `forward` gives: here the same."""
        return z

    def start_at(self, logits: Tensor) -> None:
        """Set the last bias, the logits of a row about which nothing is known.

        Args:
            logits: float[Q, J] (`objectives.hazard.marginal_logits`).

        Raises:
            ValueError: for another shape, or values that are not finite.
        """
        shape = (self.num_causes, self.num_intervals)
        if logits.shape != shape or not torch.isfinite(logits).all():
            raise ValueError(
                f"logits of shape {tuple(logits.shape)}; a head starts at {shape[0]} causes x "
                f"{shape[1]} intervals of finite logits: smooth intervals without stops"
            )
        with torch.no_grad():
            self._last.bias.copy_(logits.flatten())

    def shift(self, logits: Tensor) -> None:
        """Add to the last bias: the same for every row, float[Q, J]."""
        with torch.no_grad():
            self._last.bias.add_(logits.flatten())

    @property
    def _last(self) -> nn.Linear:
        return cast(nn.Linear, self.body[-1])


class TwoGridHead(HazardHead):
    """Hazards of one and the same stop on a short and on a long grid of age.

        u = hidden layers(f),   z = [u W_S + b_S, u W_L + b_L]

    with h_j = sigmoid(z_j) per interval, not per day. Nothing makes the two agree where they
    overlap: `daily` reads the short grid to its end, and the long one from there on.

    Source: grids and terms of Kitada et al. (JSAI 2020; arXiv 2204.11588); that the hidden layers
    are shared is our reading.

    Shapes: [B, D] -> float32[B, 1, J_short + J_long].

    Cost: parameters mlp(D; hidden; J_short + J_long).

    Args:
        in_dim: width of f (D).
        num_causes: Q of `daily`, 1 or 2: of two causes the first ends lives before the short grid
            ends, the second later.
        grids: edges of both, J_short + 1 and J_long + 1 rising ages in days; the long grid has an
            edge where the short one ends.
        hidden: widths between f and z.
    """

    def __init__(
        self,
        in_dim: int,
        num_causes: int,
        grids: tuple[Sequence[int], Sequence[int]],
        hidden: Sequence[int],
    ) -> None:
        short, long = grids
        super().__init__(in_dim, 1, len(short) + len(long) - 2, hidden)
        self._num_short = len(short) - 1
        self._of_two_causes = num_causes == 2
        later = list(long).index(short[-1])
        self._widths = torch.tensor([*short, *long[later + 1 :]]).diff()
        self._joined = [
            *range(self._num_short),
            *range(self._num_short + later, self.num_intervals),
        ]

    def daily(self, z: Tensor) -> Tensor:
        """Logits per day, constant inside the intervals of the joined grid, float32[B, Q, J].

            x_j = softplus(z_j) / w_j = -log p_alive of a day,   z_day = log(exp(x_j) - 1)

        To read from, not to train through.
        """
        per_interval = z[:, 0, self._joined]
        x = softplus(per_interval) / self._widths
        per_day = torch.where(
            per_interval < _SMALL,
            per_interval - self._widths.log(),
            x + torch.log(-torch.expm1(-x)),
        )[:, None]
        if not self._of_two_causes:
            return per_day
        is_short = torch.arange(per_day.shape[2]) < self._num_short
        return torch.where(torch.stack([is_short, ~is_short]), per_day, _NEVER)


def daily_hazards(z: Tensor) -> Tensor:
    """P(stop by cause q on a day of interval j | alive as it begins), float[B, Q, J]."""
    return torch.cat([torch.zeros_like(z[:, :1]), z], dim=1).softmax(1)[:, 1:]


def log_alive(z: Tensor) -> Tensor:
    """Log-probability that a day passes without a stop.

        l_j = log p_alive,j = -softplus(log sum_q exp z_qj)

    Args:
        z: float[B, Q, J], logits per day. Logits per interval (`TwoGridHead`, with Q = 1) give l
            per interval; divided by the widths, per day at a constant hazard in between.

    Returns:
        float[B, J].
    """
    return -softplus(z.logsumexp(1))


def log_survival(daily: Tensor, days: Tensor) -> Tensor:
    """Log S_j = sum_{i <= j} n_i l_i, at the end of each interval.

    Args:
        daily: float[B, J], l (`log_alive`).
        days: n, [J] widths of the intervals, or [B, J] days of each in a window (`window_days`),
            which makes S conditional on being alive at its start.

    Returns:
        float[B, J].
    """
    return (daily * days).cumsum(1)


def cumulative_incidence(z: Tensor, days: Tensor) -> Tensor:
    """Probability of having stopped by cause q at the end of interval j.

        CIF_qj = sum_{i <= j} S_{i-1} pi_qi (1 - exp(n_i l_i)),   pi_i = softmax over causes of z_i

    S_j + sum_q CIF_qj = 1.

    Args:
        z: float[B, Q, J], logits per day.
        days: n, [J] or [B, J] as in `log_survival`.

    Returns:
        float[B, Q, J].
    """
    through = log_alive(z) * days
    stops = _survival_before(through) * -torch.expm1(through)
    return (z.softmax(1) * stops[:, None]).cumsum(2)


def restricted_mean(daily: Tensor, days: Tensor) -> Tensor:
    """Expected number of delivered days, the day of the stop included.

        RMST = sum_j S_{j-1} sum_{u < n_j} exp(u l_j) = sum_j S_{j-1} expm1(n_j l_j) / expm1(l_j)

    Of the grid's days with widths as `days`; of those after an age with `window_days`.

    Args:
        daily: float[B, J], l (`log_alive`).
        days: n, [J] or [B, J] as in `log_survival`.

    Returns:
        float[B].
    """
    through = daily * days
    # Below the smallest normal number 1 - exp(l) may be flushed to 0; the ratio's limit is n.
    dies = daily < -torch.finfo(daily.dtype).tiny
    ratio = torch.expm1(through) / torch.expm1(torch.where(dies, daily, -1.0))
    return (_survival_before(through) * torch.where(dies, ratio, days)).sum(1)


def window_days(age: Tensor, horizon: Tensor | float, edges: Tensor) -> Tensor:
    """Days of each interval among the H days after age a.

    Days beyond the grid are in no interval: nothing is known there, and a window that leaves the
    grid is cut at its end (its days then sum to less than H).

    Args:
        age: [B], the last day lived through, a. A row at landmark m, alive as day m begins, has
            lived through day m - 1. Fractions of a day count.
        horizon: H in days, one for all rows or [B].
        edges: int64[J + 1].

    Returns:
        [B, J], of the type of age + horizon.
    """
    return _days_through(age + horizon, edges) - _days_through(age, edges)


def stop_probability(daily: Tensor, age: Tensor, horizon: Tensor | float, edges: Tensor) -> Tensor:
    """P(stop within the H days after age a | alive through a) = 1 - S(a + H) / S(a).

    Inside an interval the daily hazard is constant. By cause it is the last column of
    `cumulative_incidence(z, window_days(age, horizon, edges))`.

    Args:
        daily: float[B, J], l (`log_alive`).
        age: [B], as in `window_days`.
        horizon: H in days.
        edges: int64[J + 1].

    Returns:
        float[B].
    """
    return -torch.expm1((daily * window_days(age, horizon, edges)).sum(1))


def _days_through(age: Tensor, edges: Tensor) -> Tensor:
    days = (age[:, None] + 1 - edges[:-1]).clamp(min=0)
    return torch.minimum(days, edges.diff())


def _survival_before(through: Tensor) -> Tensor:
    """S at the start of each interval, from log-probabilities to live through each."""
    return pad(through[:, :-1].cumsum(1), (1, 0)).exp()
