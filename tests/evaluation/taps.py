"""Hand-built mixtures: what a probe would see of a tower in a given state of health."""

import torch

from recsys_mtl.models.experts import ExpertSums
from recsys_mtl.models.interface import Mixture

ROWS, WIDTH = 400, 10
RATES = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1, "e": 0.05, "f": 0.02, "g": 0.01, "h": 0.002}
"""Eight tasks, the last three the sparsest third."""
SHARED = ("shared/0", "shared/1", "shared/2", "shared/3")


def normal_outputs(num=5, seed=0):
    return torch.randn(ROWS, num, WIDTH, generator=torch.Generator().manual_seed(seed))


def rows_of(weights):
    """The same weights on every row."""
    return torch.tensor(weights).expand(ROWS, -1)


def mixture(task, weights=(0.2,) * 5, outputs=None, layer="1", experts=None, self_weights=None):
    """A gate over one specific and four shared experts."""
    if not isinstance(weights, torch.Tensor):
        weights = rows_of(weights)
    return Mixture(
        layer,
        task,
        experts or (f"{task}/0", *SHARED),
        weights,
        normal_outputs() if outputs is None else outputs,
        self_weights,
    )


def sums_of(mixtures):
    sums = ExpertSums()
    for one in mixtures:
        assert sums(one) is one
    return sums


def tower(**changed):
    """Sums over eight healthy gates, but for the mixtures given by task."""
    return sums_of([changed.get(task) or mixture(task) for task in RATES])
