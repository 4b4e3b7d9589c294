"""What does concordance cost? CPU milliseconds per call, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.survival_metrics [--quick]

Equal: rows, 60 % stops, risks that tell something. Days are exact times without
ties; intervals are 8. Goals on one core: exact 1e6 < 5 s, bucketed 1e6 < 1 s and
1e7 < 10 s. lifelines and scikit-survival run on the same rows, at the sizes they
can do, where they are installed: in `.venv-oracles`, which `make oracles` makes.
"""

import argparse
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.results import interleaved, report
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.bootstrap import cluster_bootstrap
from recsys_mtl.metrics.survival.bucketed import count_pairs_bucketed, count_pairs_td
from recsys_mtl.metrics.survival.concordance import count_pairs, harrell_c
from recsys_mtl.metrics.survival.histogram import RiskCells, td_histogram
from recsys_mtl.metrics.survival.outcomes import Outcomes

NUM_BUCKETS = 8
GOALS_MS = {"exact 1e6": 5_000.0, "bucketed 1e6": 1_000.0, "bucketed 1e7": 10_000.0}
PEERS = {"lifelines": ("1e5", "1e6"), "sksurv": ("1e4",)}
"""Sizes that a library can do."""


def rows_of(num: int) -> tuple[np.ndarray, Outcomes, Outcomes]:
    """Risks in (0, 1), outcomes in days and in intervals."""
    rng = np.random.default_rng(num)
    days = rng.exponential(size=num)
    event = rng.random(num) < 0.6
    risk = 1 / (1 + np.exp(days - 1 + rng.normal(size=num)))
    edges = np.quantile(days[:10_000], np.arange(1, NUM_BUCKETS) / NUM_BUCKETS)
    return risk, Outcomes(days, event), Outcomes(np.searchsorted(edges, days), event)


def cpu_ms(work: Callable[[], object]) -> Callable[[], float]:
    """CPU time of one call."""

    def measure() -> float:
        start = time.process_time()
        work()
        return 1000 * (time.process_time() - start)

    return measure


def our_cases(num: int, label: str) -> dict[str, Callable[[], float]]:
    """Every form on `num` rows."""
    risk, days, buckets = rows_of(num)
    late = Outcomes(days.time, days.event, entry=days.time / 2)
    curves = np.exp(-risk[:, None] * np.arange(1, NUM_BUCKETS + 1))
    cases = {
        "exact": lambda: count_pairs(risk, days),
        "exact, late entry": lambda: count_pairs(risk, late),
        "exact with error": lambda: harrell_c(risk, days),
        "bucketed": lambda: count_pairs_bucketed(risk, buckets, NUM_BUCKETS),
        "histogram": lambda: RiskCells.of(risk, buckets, NUM_BUCKETS).state().counts(),
        "td-C": lambda: count_pairs_td(curves, buckets),
        "td-C histogram": lambda: td_histogram(curves, buckets).counts(),
    }
    return {f"{name} {label}": cpu_ms(work) for name, work in cases.items()}


def large_cases(num: int, label: str) -> dict[str, Callable[[], float]]:
    """The forms for one pass over many rows."""
    risk, _, buckets = rows_of(num)
    return {
        f"bucketed {label}": cpu_ms(lambda: count_pairs_bucketed(risk, buckets, NUM_BUCKETS)),
        f"histogram {label}": cpu_ms(
            lambda: RiskCells.of(risk, buckets, NUM_BUCKETS).state().counts()
        ),
    }


def bootstrap_case(num: int, replicates: int) -> Callable[[], float]:
    """500 replicates over 10,000 campaigns, scaled from fewer."""
    risk, _, buckets = rows_of(num)
    cells = RiskCells.of(risk, buckets, NUM_BUCKETS)
    campaigns = Clusters.of(np.arange(num) % 10_000)

    def concordance(weight: np.ndarray) -> np.ndarray:
        return np.array(cells.state(weight).counts().value)

    once = cpu_ms(lambda: cluster_bootstrap(concordance, campaigns, replicates))
    return lambda: once() * 500 / replicates


def peer_cases(peer: str, label: str) -> dict[str, Callable[[], float]]:
    """A library's C and our exact form on the same rows."""
    risk, days, _ = rows_of(int(float(label)))
    work = of_lifelines(risk, days) if peer == "lifelines" else of_sksurv(risk, days)
    return {
        f"exact {label}": cpu_ms(lambda: count_pairs(risk, days)),
        f"{peer} {label}": cpu_ms(work),
    }


def of_lifelines(risk: np.ndarray, days: Outcomes) -> Callable[[], object]:
    """Its balanced tree, O(n log n)."""
    from lifelines.utils import concordance_index

    return lambda: concordance_index(days.time, -risk, days.event)


def of_sksurv(risk: np.ndarray, days: Outcomes) -> Callable[[], object]:
    """Its loop over stops, O(n^2)."""
    from sksurv.metrics import concordance_index_censored

    return lambda: concordance_index_censored(days.event, days.time, risk)


def all_cases(quick: bool) -> dict[str, Callable[[], float]]:
    """Ours, and those of the libraries that are installed."""
    cases = our_cases(100_000, "1e5")
    if not quick:
        cases |= our_cases(1_000_000, "1e6") | large_cases(10_000_000, "1e7")
        cases["500 replicates 1e6"] = bootstrap_case(1_000_000, 10)
    for peer, labels in PEERS.items():
        if importlib.util.find_spec(peer) is None:
            print(f"{peer}: skipped, not installed")
            continue
        for label in labels[:1] if quick else labels:
            cases |= peer_cases(peer, label)
    return cases


def main() -> None:
    """Measure, print, and keep what was measured in full."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1e5 rows only; keeps nothing")
    quick = parser.parse_args().quick
    cases = all_cases(quick)
    found = interleaved(cases, 3)
    exact = {case: f"exact {case.split()[-1]}" for case in cases}
    base = {case: form for case, form in exact.items() if form in cases}
    report("survival_metrics", "ms", found, base, is_kept=not quick)
    for name, goal in GOALS_MS.items():
        if name in found:
            middle = statistics.median(found[name])
            verdict = "met" if middle < goal else "MISSED"
            print(f"{name}: {middle:,.0f} ms, goal {goal:,.0f}: {verdict}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB, all cases' rows included")


if __name__ == "__main__":
    main()
