"""Does the survival head find the hazards of a world in which they are known?

    OMP_NUM_THREADS=1 python -m benchmarks.ads --data DIR [--seeds 5] [--quick]

Every seed is a world of some 60,000 creatives and the seed of its trainings; intervals are over
worlds. Measured: marginal hazards and the classic mistakes; the model beside the oracle and an
observer who knows the world's equations; baselines; the paper's claims as ablations. The model is
chosen by validation likelihood in the first world. Trainings are files below DIR: an interrupted
benchmark goes on where it was. `--quick` makes one small world and keeps no results. Forest and
boosting need scikit-survival: with `.venv-oracles/bin/python`, of `make oracles`.
"""

import argparse
from datetime import datetime
from pathlib import Path

import torch

from benchmarks.ads.contenders import COMMON
from benchmarks.ads.experiment import Experiment, chosen
from benchmarks.ads.summary import summary
from benchmarks.ads.world import CONFIG, QUICK


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of worlds and runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one small world; nothing is kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = datetime.now()
    config, name = (QUICK, "quick") if args.quick else (CONFIG, "world")
    folders = {seed: args.data / f"{name}-{seed}" for seed in range(1, args.seeds + 1)}
    if args.quick:
        folders = {1: folders[1]}
    worlds = {seed: config.model_copy(update={"seed": seed}) for seed in folders}
    base = chosen(folders[1], worlds[1], COMMON)
    found = [
        Experiment(folder, worlds[seed], COMMON, base).measured()
        for seed, folder in folders.items()
    ]
    results = summary(found, base.name)
    print(results.markdown())
    print(f"{(datetime.now() - start).total_seconds():.0f} s")
    if not args.quick:
        results.keep()


if __name__ == "__main__":
    main()
