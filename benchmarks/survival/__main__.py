"""Does the hazard head order lifetimes better than Cox? Test rows of real data, several seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.survival {support,gbsg,snap,all} --data DIR [--seeds 5]

Equal: rows, covariates, test times, tie rule. Not equal: the head holds out a fifth of the training
rows for early stopping, and its input is normal scores (Cox is shown with and without them). The
recipe was chosen by cross-validation inside training rows; `--quick` trains one seed and keeps no
file. SUPPORT and GBSG: official splits of the DeepSurv repository. Snap: see `snap` and `stops`.
"""

import argparse
from datetime import datetime
from pathlib import Path

import torch

from benchmarks.survival.data import Split, load_official
from benchmarks.survival.lifetimes import (
    COX,
    COX_SCORES,
    HEAD,
    Scores,
    paired,
    score_cox,
    score_head,
    score_kaplan_meier,
)
from benchmarks.survival.snap import SPLIT_AT, load_lifetimes, load_statuses
from benchmarks.survival.stops import head_scores, rules, score_stops
from benchmarks.survival.table import Bar, Table
from recsys_mtl.metrics.estimate import Estimate, difference

SNAP_COX = 0.63
"""Of the Snap protocol's own Cox model, on eleven covariates that it does not name."""


def compare(table: Table, name: str, split: Split, seeds: range) -> tuple[Scores, list[Scores]]:
    """Add Kaplan-Meier, Cox and the head on one split; give Cox and the head of each seed."""
    cox = score_cox(split, scores=False)
    heads = [score_head(split, seed) for seed in seeds]
    models = {
        "Kaplan-Meier": [score_kaplan_meier(split)],
        COX: [cox],
        COX_SCORES: [score_cox(split, scores=True)],
        HEAD: heads,
    }
    for model, found in models.items():
        table.add(f"{name}: {model}", "C", [s.c.value for s in found], found[0].c.se)
        table.add(f"{name}: {model}", "td-C", [s.td_c for s in found])
        table.add(f"{name}: {model}", "IBS", [s.ibs for s in found])
    return cox, heads


def official(name: str, data: Path, seeds: range) -> Table:
    """SUPPORT or GBSG, and the bar of each."""
    table = Table(name)
    cox, heads = compare(table, name, load_official(name, data), seeds)
    gain, se = paired(heads, cox)
    table.add(f"{name}: {HEAD} - {COX}", "C", [gain], se)
    if name == "support":
        table.bars.append(Bar("C of the head - C of Cox", gain, 0.03))
    else:
        table.bars.append(Bar("C of the head - C of Cox, against -2 s.e.", gain, -2 * se))
    return table


def snap(data: Path, seeds: range) -> Table:
    """Lifetimes as set up, with all that is known now and with what was known then; stops."""
    table = Table("snap")
    for name, known_at in {"set-up end": None, "set-up end, known 1 August": SPLIT_AT}.items():
        lifetimes(table, name, load_lifetimes(data, known_at), seeds)
    observed_stops(table, data, seeds)
    return table


def lifetimes(table: Table, name: str, split: Split, seeds: range) -> None:
    """Models of the ads' lifetimes, and their bars."""
    cox, heads = compare(table, name, split, seeds)
    gain, se = paired(heads, cox)
    table.add(f"{name}: {HEAD} - {COX}", "C", [gain], se)
    table.bars.append(Bar(f"{name}: C of the head - C of Cox", gain, 0.0))
    found = sum(s.c.value or 0.0 for s in heads) / len(heads)
    table.bars.append(Bar(f"{name}: C of the head", found, SNAP_COX))


def observed_stops(table: Table, data: Path, seeds: range) -> None:
    """Rules and the head on the ads that delivered until 28 September."""
    first, risk_set = load_statuses(data)
    stops = int((~risk_set.delivers).sum())
    open_ads = int((~first.is_over).sum())
    print(f"observed stops: {open_ads} ads to learn from, {stops} of {len(risk_set.age)} stop")

    def add(name: str, found: list[Estimate]) -> None:
        table.add(f"stops: {name}", "AUC", [e.value for e in found], found[0].se)

    ruled = {name: score_stops(score, risk_set) for name, score in rules(risk_set).items()}
    for name, found in ruled.items():
        add(name, [found])
    best = max(ruled, key=lambda name: ruled[name].value or 0.0)
    for name, with_end in {"11 covariates": False, "and the set end": True}.items():
        heads = [
            score_stops(head_scores(first, risk_set, seed, with_end), risk_set) for seed in seeds
        ]
        add(f"{HEAD}, {name}", heads)
        gains = [difference(head, ruled[best]) for head in heads]
        table.add(f"stops: {HEAD}, {name} - {best}", "AUC", [g.value for g in gains], gains[0].se)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("support", "gbsg", "snap", "all"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed; nothing is kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(1, 2 if args.quick else args.seeds + 1)
    for name in ("support", "gbsg", "snap") if args.name == "all" else (args.name,):
        start = datetime.now()
        table = snap(args.data, seeds) if name == "snap" else official(name, args.data, seeds)
        print(f"{table.markdown()}\n{(datetime.now() - start).total_seconds():.0f} s\n")
        if not args.quick:
            table.keep()


if __name__ == "__main__":
    main()
