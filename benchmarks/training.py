"""Is the loader fast enough? Rows/s of training from shards against the same step fed from memory.

    python -m benchmarks.training [--quick]

Equal: model, batches, threads, seed. Not equal: where batches come from. Target: at least 0.6.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import interleaved, report
from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.ingest.job import ingest
from recsys_mtl.simulate.short_video import WorldConfig, write_world
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.training.learner import Learner

TARGET = 0.6
PIPELINE = Path(__file__).parents[1] / "pipelines" / "short_video.yaml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds; keeps nothing")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_world(root / "raw", WorldConfig(num_days=6, rows_per_day=20_000 if quick else 60_000))
        overrides = [f"data.root={root}/raw", f"home={root}/out", "ingest.engine=local"]
        loaded = load_pipeline(PIPELINE, overrides)
        shards = EncodedShards(ingest(loaded, None), loaded.layout)
        learner = Learner(loaded.pipeline, loaded.layout)
        rows = loaded.pipeline.training.batch_rows

        def from_shards() -> Iterator[Batch]:
            return shards.batches("train", rows, shuffle=Shuffle(1, 0))

        held = list(from_shards())

        def rate(batches: Iterator[Batch]) -> float:
            start, done = time.perf_counter(), 0
            for batch in batches:
                learner.step(batch)
                done += batch.num_rows
            return done / (time.perf_counter() - start)

        rate(iter(held[:5]))
        cases = {
            "from_memory": lambda: rate(iter(held)),
            "from_shards": lambda: rate(from_shards()),
        }
        found = interleaved(cases, 3 if quick else 5)
    report("training", "rows/s", found, base="from_memory", is_kept=not quick)
    ratio = sum(found["from_shards"]) / sum(found["from_memory"])
    print(f"target {TARGET}: {'met' if ratio >= TARGET else 'missed'}")


if __name__ == "__main__":
    main()
