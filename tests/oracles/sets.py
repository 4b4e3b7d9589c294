"""Random outcomes full of ties, for our code and a library's."""

import numpy as np
import torch

from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.objectives.hazard import exposures, marginal_logits

LAST = 11
"""The day on which the last row of every set is censored."""


def tied_set(seed):
    """40 to 120 rows with at most 9 days and 8 risks, and one that is censored after them."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(40, 120))
    time, event = rng.integers(1, 10, rows), rng.random(rows) < 0.6
    time[-1], event[-1] = LAST, False
    return rng.integers(0, 8, rows) / 8, Outcomes(time, event)


def late_set(seed):
    """Rows of `tied_set`, most of which enter after day 1; somebody is at risk on every day."""
    _, o = tied_set(seed)
    entry = np.minimum(np.random.default_rng(seed).integers(1, 5, len(o)), o.time)
    entry[:10] = 1
    return Outcomes(o.time, o.event, entry)


def marginal_fit(o, cause, num_causes):
    """Daily logits [1, Q, LAST] of the head without features, in intervals of one day.

    Logits are finite: where nothing stopped the hazard is e^-500.
    """
    entry = np.ones_like(o.time) if o.entry is None else o.entry
    rows = (torch.from_numpy(part) for part in (entry, o.time, cause))
    days, events = exposures(*rows, torch.arange(1, LAST + 2), num_causes)
    logits = marginal_logits(days.double().sum(0), events.double().sum(0), smoothing=0)
    return logits.clamp(min=-500)[None]
