"""Intercepts of a daily hazard head, fitted anew with all else as it is."""

import torch
from torch import Tensor

from recsys_mtl.models.heads.hazard import daily_hazards

MAX_STEP = 1.0
"""Logits per Newton step: far from the optimum a full step would overshoot."""


def newton_sums(z: Tensor, days: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the likelihood of some rows by a shift b of their logits, at b = 0.

        f(b)          = sum over rows of daily_hazard_nll(z + b)
        df / db_qj    = sum_b d_j p_qj - Y_qj, stops expected less stops observed
        d2f / db_j^2  = sum_b d_j (diag(p_j) - p_j p_j')

    Args:
        z: float[B, Q, J], logits per day.
        days: float[B, J], days at risk (`hazard.exposures`).
        events: float[B, Q, J], stops.

    Returns:
        Gradient float64[Q, J] and Hessian float64[J, Q, Q], to be added over batches.
    """
    p_BQJ = daily_hazards(z.double())
    expected_BQJ = days.double()[:, None] * p_BQJ
    gradient = expected_BQJ.sum(0) - events.double().sum(0)
    hessian = torch.diag_embed(expected_BQJ.sum(0).T)
    return gradient, hessian - torch.einsum("bqj,brj->jqr", expected_BQJ, p_BQJ)


def newton_step(gradient: Tensor, hessian: Tensor, shift: Tensor) -> Tensor:
    """Change of the shift, float64[Q, J], towards the minimum of f(b) + |b|^2 / 2.

    The second term is a normal prior with a standard deviation of one logit: where there are
    stops it decides nothing, and where there are none the hazard does not go to 0.

    Args:
        gradient: float64[Q, J] over all rows (`newton_sums`), at the present shift.
        hessian: float64[J, Q, Q].
        shift: float64[Q, J], b so far.
    """
    prior = torch.eye(len(gradient), dtype=hessian.dtype)
    step = torch.linalg.solve(hessian + prior, (gradient + shift).T[:, :, None])[:, :, 0]
    change: Tensor = -step.T.clamp(-MAX_STEP, MAX_STEP)
    return change
