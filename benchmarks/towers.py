"""What does a training step of each tower cost?

    python -m benchmarks.towers [--pipeline pipelines/kuairand.yaml] [--quick] [--profile]

Equal: batches, tables, heads, one thread; steps are interleaved and timed in CPU seconds. Not
equal: the tower (contenders of benchmarks.quality). Without --pipeline a simulated feed is used.
Bars, against mmoe: ple and home at least 0.5, apem at least 0.125.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.quality.contenders import BASE, CONTENDERS, SINGLE_TASK
from benchmarks.results import interleaved, report
from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.ingest.job import ingest
from recsys_mtl.simulate.short_video import WorldConfig, write_world
from recsys_mtl.spec.load import Loaded, load_pipeline
from recsys_mtl.training.learner import Learner

SHORT_VIDEO = Path(__file__).parents[1] / "pipelines" / "short_video.yaml"
_BARS = {"ple": 0.5, "home": 0.5, "apem": 0.125}
_BATCHES = 12


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; keeps nothing")
    parser.add_argument("--profile", action="store_true", help="print each tower's largest ops")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        learners, batches = _prepared(args.pipeline, Path(folder))
        rates = {name: _rate_of(learner, batches) for name, learner in learners.items()}
        for rate in rates.values():
            rate()
        found = interleaved(rates, 3 if args.quick else 7)
        if args.profile:
            for name, learner in learners.items():
                print(f"\n{name}\n{_largest(learner, batches)}")
    report("towers", "rows/CPU-s", found, base=BASE, is_kept=not args.quick)
    for name, bar in _BARS.items():
        ratio = sum(found[name]) / sum(found[BASE])
        print(f"{name}: {ratio:.2f} of {BASE}, bar {bar}: {'met' if ratio >= bar else 'missed'}")


def _prepared(pipeline: Path | None, folder: Path) -> tuple[dict[str, Learner], list[Batch]]:
    flags = [f"home={folder}/out", "ingest.engine=local", "ingest.workers=1"]
    if pipeline is None:
        write_world(folder / "raw", WorldConfig(num_days=4, rows_per_day=20_000))
        flags.append(f"data.root={folder}/raw")
    learners: dict[str, Learner] = {}
    batches: list[Batch] = []
    for name, overrides in CONTENDERS.items():
        if name == SINGLE_TASK:
            continue
        loaded: Loaded = load_pipeline(pipeline or SHORT_VIDEO, [*flags, *overrides])
        if not batches:
            shards = EncodedShards(ingest(loaded, None), loaded.layout)
            stream = shards.batches("train", loaded.pipeline.training.batch_rows)
            batches = [batch for batch, _ in zip(stream, range(_BATCHES), strict=False)]
        learners[name] = Learner(loaded.pipeline, loaded.layout)
    return learners, batches


def _rate_of(learner: Learner, batches: list[Batch]) -> Callable[[], float]:
    def rate() -> float:
        start = time.process_time()
        for batch in batches:
            learner.step(batch)
        return sum(b.num_rows for b in batches) / (time.process_time() - start)

    return rate


def _largest(learner: Learner, batches: list[Batch]) -> str:
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        for batch, _ in zip(cycle(batches), range(5), strict=False):
            learner.step(batch)
    table: str = watched.key_averages().table(sort_by="self_cpu_time_total", row_limit=8)
    return table


if __name__ == "__main__":
    main()
