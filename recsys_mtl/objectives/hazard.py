"""Likelihoods of discrete hazards: daily with causes and exposure, and the paper's two grids.

A grid has edges e_0 < ... < e_J in days of age; interval j is [e_j, e_{j+1}). Q counts causes.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus


def exposures(
    entry: Tensor, exit: Tensor, event: Tensor, edges: Tensor, num_causes: int
) -> tuple[Tensor, Tensor]:
    """Days at risk and stops of each row by interval.

        d_j  = max(0, min(exit, e_{j+1} - 1) - max(entry, e_j) + 1)
        Y_qj = 1 if the row stops by cause q on a day of interval j

    The day of the stop is a day at risk. A row that leaves the grid alive, or stops beyond it, is
    censored at its end. Inside the grid sum_j d_j = exit - entry + 1, and sum_q Y_qj <= d_j.

    Args:
        entry: int64[B], first day at risk.
        exit: int64[B], last day at risk, not before `entry`.
        event: int64[B], 0 where censored after `exit`, else the cause 1..Q of the stop on `exit`.
            A cause above Q counts as censored, as causes that are not modelled do.
        edges: int64[J + 1], rising.
        num_causes: Q.

    Returns:
        days float32[B, J] and events float32[B, Q, J].
    """
    left, right = edges[:-1], edges[1:]
    first = torch.maximum(entry[:, None], left)
    last = torch.minimum(exit[:, None], right - 1)
    days = (last - first + 1).clamp(min=0)
    inside = (left <= exit[:, None]) & (exit[:, None] < right)
    causes = torch.arange(1, num_causes + 1, device=event.device)
    events = (event[:, None] == causes)[:, :, None] & inside[:, None]
    return days.float(), events.float()


def daily_hazard_nll(z: Tensor, days: Tensor, events: Tensor) -> Tensor:
    """Negative log-likelihood of competing daily hazards, one value per row.

    On every day of interval j, [p_alive, p_1, ..., p_Q] = softmax([0, z_1j, ..., z_Qj]), and

        nll = -sum_j [(d_j - sum_q Y_qj) log p_alive,j + sum_q Y_qj log p_qj]
        dnll / dz_qj = d_j p_qj - Y_qj

    Days at risk enter one by one, so censoring on any day and late entry are exact; a row
    conditions on being alive at its entry. It is the likelihood of a multinomial choice on each
    day, finite for any finite logits.

    Args:
        z: float[B, Q, J], logits per day.
        days: float[B, J], days at risk (`exposures`).
        events: float[B, Q, J], stops.

    Returns:
        float[B], nats per row, neither weighted nor reduced.
    """
    alive = days - events.sum(1)
    counts_BQJ = torch.cat([alive[:, None], events], dim=1)
    log_p_BQJ = log_softmax(torch.cat([torch.zeros_like(z[:, :1]), z], dim=1), dim=1)
    return -(counts_BQJ * log_p_BQJ).flatten(1).sum(1)


def daily_hazard_loss(
    z: Tensor, days: Tensor, events: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of the weighted mean of `daily_hazard_nll`.

        L = sum_b w_b nll_b / sum_b w_b

    Both are sums, to be added over processes before they are divided: a mean of means would
    depend on how rows are spread.

    Args:
        z: float[B, Q, J].
        days: float[B, J].
        events: float[B, Q, J].
        weight: float[B] >= 0. A row with weight 0 does not count, and its logits, finite or not,
            get gradient 0.

    Returns:
        Two scalars.
    """
    counted = weight > 0
    nll = daily_hazard_nll(_where_counted(counted, z), days, events)
    weight = _where_counted(counted, weight)
    return (weight * nll).sum(), weight.sum()


def marginal_logits(days_sum: Tensor, events_sum: Tensor, smoothing: float = 0.5) -> Tensor:
    """Logits of the model without features, where a head starts.

        z_qj = log(sum Y_qj + c) - log(sum d_j - sum_q Y_qj + 2 c)

    With c = 0 this is the maximum-likelihood fit, p_qj = sum Y_qj / sum d_j, and -inf where
    nothing stopped. The hazards per interval of `grid_labels` are the case of one cause with
    s + e as days.

    Args:
        days_sum: float[J], days at risk over training rows; sum in float64 beyond 1.6e7.
        events_sum: float[Q, J].
        smoothing: c.

    Returns:
        float[Q, J].
    """
    alive = days_sum - events_sum.sum(0)
    return torch.log(events_sum + smoothing) - torch.log(alive + 2 * smoothing)


def grid_labels(
    time: Tensor, event: Tensor, edges: Tensor, entry: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which intervals each row is known to have survived, and in which it stopped.

        stopped at t in interval k:  s_j = 1 for j < k,  e_k = 1
        stopped at t >= e_J:         s_j = 1 for all j
        censored at t:               s_j = 1 where t >= (e_j + e_{j+1}) / 2

    The half-interval rule for censored rows is that of Gensheimer and Narasimhan (PeerJ 2019).
    Whoever left before e_0 was never at risk: s = e = 0, and the caller gives the row weight 0
    (our reading; the paper's grids start at day 1, the first day there is). So does an interval
    that began before a row's entry not count for it: s_j = e_j = 0 where e_j < entry (our reading;
    the paper knows no late entry, and lets features reach into the first intervals).

    Args:
        time: int64[B] or float[B], age in days; for a row that is alive after its last day at
            risk that day + 1, which makes one-day intervals exact.
        event: bool[B] or int64[B], 0 where censored.
        edges: int64[J + 1], rising.
        entry: int64[B], first day at risk; that of the grid when absent.

    Returns:
        s and e, both float32[B, J].
    """
    left, right = edges[:-1], edges[1:]
    t, stopped = time[:, None], (event > 0)[:, None]
    survived = torch.where(stopped, t >= right, 2 * t >= left + right)
    stopped_in = stopped & (left <= t) & (t < right)
    if entry is not None:
        whole = entry[:, None] <= left
        survived, stopped_in = survived & whole, stopped_in & whole
    return survived.float(), stopped_in.float()


def interval_nll(z: Tensor, survived: Tensor, stopped: Tensor) -> Tensor:
    """Negative log-likelihood of hazards per interval, one value per row.

    With h_j = sigmoid(z_j), as the loss of Gensheimer and Narasimhan (PeerJ 2019),

        nll = -sum_j [s_j log(1 - h_j) + e_j log h_j]
            = sum_j [s_j softplus(z_j) + e_j softplus(-z_j)]
        dnll / dz_j = (s_j + e_j) h_j - e_j

    Kitada et al. (JSAI 2020) cite that loss and print it without the term of the stop; as printed
    its optimum is h = 0, so this is our reading of what they trained.

    Args:
        z: float[B, J], logits per interval.
        survived: float[B, J], s (`grid_labels`).
        stopped: float[B, J], e.

    Returns:
        float[B], nats per row, neither weighted nor reduced.
    """
    return (survived * softplus(z) + stopped * softplus(-z)).sum(1)


def two_term_loss(
    z: tuple[Tensor, Tensor],
    labels: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    weight: Tensor,
    short_share: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of the mean loss over a short and a long grid of the same stop.

        L = (1 / B) sum_b w_b [lambda nll_b(short) + (1 - lambda) nll_b(long)],   w_b = 1 + r_b

    with r the click rate: the weight multiplies all of a creative's likelihood, and rows are
    counted, not weighted, in the denominator. Both are sums, to be added over processes before
    they are divided.

    Source: weight of Kitada et al. (JSAI 2020), two terms after Kitada et al. (arXiv
    2204.11588); the assembly and lambda = 1/2 are our reading.

    Args:
        z: float[B, J_short] and float[B, J_long].
        labels: s and e of each grid.
        weight: float[B]; a row with weight 0 does not count, and its logits, finite or not, get
            gradient 0.
        short_share: lambda, in [0, 1].

    Returns:
        Two scalars, the second the number of rows with a weight above 0.
    """
    counted = weight > 0
    short, long = (
        interval_nll(_where_counted(counted, logits), *grid)
        for logits, grid in zip(z, labels, strict=True)
    )
    nll = short_share * short + (1 - short_share) * long
    return (_where_counted(counted, weight) * nll).sum(), counted.sum().to(nll.dtype)


def _where_counted(counted: Tensor, values: Tensor) -> Tensor:
    """Zero other rows before they are used: 0 times a NaN of the result still has gradient NaN."""
    rows = counted.view(-1, *[1] * (values.dim() - 1))
    return torch.where(rows, values, torch.zeros((), dtype=values.dtype, device=values.device))
