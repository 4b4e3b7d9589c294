"""Which tower is best on this data?

    python -m benchmarks.quality kuairand [--seeds 3] [--models mmoe,home] [--quick]

Equal: rows, split, tables, bottom, heads, epochs, batch, sparse learning rate, seeds and the number
of dense learning rates tried. Not equal: the tower, and its best learning rate, which is chosen on
the first seed by mean validation AUC. The test rows are read once per model and seed. Every run is
a JSON file below --home: an interrupted benchmark goes on where it was.
"""

import argparse
import json
from pathlib import Path

from benchmarks.quality.contenders import BASE, CONTENDERS, LEARNING_RATES, WORLDS
from benchmarks.quality.runs import Run, Setting, run
from benchmarks.quality.table import markdown, rows_of
from benchmarks.results import RESULTS, machine


def main() -> None:
    """Train, compare, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default=",".join(CONTENDERS), help="comma separated")
    parser.add_argument("--home", type=Path, default=Path("out/quality"))
    parser.add_argument("--set", action="append", default=[], help="override of the pipeline file")
    parser.add_argument("--quick", action="store_true", help="one learning rate, one epoch")
    args = parser.parse_args()
    rates = LEARNING_RATES[1:2] if args.quick else LEARNING_RATES
    extra = [*args.set, *(["training.epochs=1"] if args.quick else [])]
    chosen = [m for m in CONTENDERS if m in {*args.models.split(","), BASE}]
    home = args.home / args.world

    def measured(model: str, lr: float, seed: int) -> Run:
        found = run(WORLDS[args.world], Setting(model, lr, seed), extra, home)
        numbers = " ".join(f"{t} {e['auc']['value']:.4f}" for t, e in found.test.items())
        print(
            f"{model:14} lr {lr:<6g} seed {seed}  valid {found.mean_valid_auc:.4f}  {numbers}",
            flush=True,
        )
        return found

    best_rate: dict[str, float] = {}
    runs: dict[str, list[Run]] = {}
    for model in chosen:
        tuned = {lr: measured(model, lr, 1).mean_valid_auc for lr in rates}
        best_rate[model] = max(tuned, key=lambda lr: tuned[lr])
        seeds = range(1, args.seeds + 1)
        runs[model] = [measured(model, best_rate[model], seed) for seed in seeds]
    rows = rows_of(runs, best_rate)
    print(markdown(rows))
    if not args.quick:
        record = {"machine": machine(), "learning_rates": rates, "rows": rows}
        path = RESULTS / f"quality_{args.world}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
