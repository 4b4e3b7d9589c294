"""What does the loss of the hazard head cost? Rows per CPU second, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.hazard_loss [--quick]

Equal: 65,536 rows, 8 intervals, float32, forward and backward down to the logits. Not equal: ours
has weights, late entry and causes; it is timed from entry, exit and event as in a training step,
and from days at risk that are already counted. pycox's loss of one cause starts from the number of
the last interval, where it is installed (`.venv-oracles`, which `make oracles` makes). Bar: each of
ours at least 1e6 rows/s.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.results import interleaved, report
from recsys_mtl.objectives.hazard import daily_hazard_loss, exposures

ROWS = 65_536
EDGES = torch.tensor([1, 3, 5, 7, 10, 30, 60, 90, 120])
NUM_INTERVALS = len(EDGES) - 1
BAR = 1e6
_STEPS = 10


def rate(loss: Callable[[Tensor], Tensor], *shape: int) -> Callable[[], float]:
    """Rows per CPU second of a loss and its gradient at random logits."""
    gen = torch.Generator().manual_seed(1)
    z = torch.randn(ROWS, *shape, generator=gen).requires_grad_()

    def measure() -> float:
        start = time.process_time()
        for _ in range(_STEPS):
            torch.autograd.grad(loss(z), z)
        return ROWS * _STEPS / (time.process_time() - start)

    return measure


def our_cases(num_causes: int) -> dict[str, Callable[[], float]]:
    """Rows of landmarks in the first month that live up to 60 days more."""
    gen = torch.Generator().manual_seed(0)
    entry = torch.randint(1, 31, (ROWS,), generator=gen)
    last = entry + torch.randint(0, 60, (ROWS,), generator=gen)
    event = torch.randint(0, num_causes + 1, (ROWS,), generator=gen)
    weight = 0.5 + torch.rand(ROWS, generator=gen)
    days, events = exposures(entry, last, event, EDGES, num_causes)

    def from_days(z: Tensor) -> Tensor:
        total, rows = daily_hazard_loss(z, days, events, weight)
        return total / rows

    def from_exits(z: Tensor) -> Tensor:
        counts = exposures(entry, last, event, EDGES, num_causes)
        total, rows = daily_hazard_loss(z, *counts, weight)
        return total / rows

    shape = (num_causes, NUM_INTERVALS)
    causes = f"{num_causes} cause" + "s" * (num_causes > 1)
    return {
        f"{causes}, from exits": rate(from_exits, *shape),
        f"{causes}, from days": rate(from_days, *shape),
    }


def pycox_case() -> Callable[[], float]:
    """Its `nll_logistic_hazard`."""
    from pycox.models.loss import nll_logistic_hazard

    gen = torch.Generator().manual_seed(0)
    last = torch.randint(0, NUM_INTERVALS, (ROWS,), generator=gen)
    event = torch.randint(0, 2, (ROWS,), generator=gen).float()
    return rate(lambda z: nll_logistic_hazard(z, last, event), NUM_INTERVALS)


def main() -> None:
    """Measure, print, and keep what was measured in full."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds; keeps nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    ours = our_cases(1) | our_cases(2)
    cases = dict(ours)
    if importlib.util.find_spec("pycox") is None:
        print("pycox: skipped, not installed")
    else:
        cases["pycox"] = pycox_case()
    for measure in cases.values():
        measure()
    found = interleaved(cases, 3 if quick else 9)
    base = "1 cause, from exits"
    report("hazard_loss", "rows/CPU-s", found, base, is_kept=not quick)
    for name in ours:
        verdict = "met" if statistics.median(found[name]) >= BAR else "MISSED"
        print(f"{name}: bar {BAR:,.0f} rows/s: {verdict}")


if __name__ == "__main__":
    main()
