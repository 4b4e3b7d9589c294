"""How fast is ingestion, and what does Ray cost on one machine? Rows/s per engine.

    python -m benchmarks.ingestion [--quick]

Equal: data, shards, spec; the shards are byte-identical. Not equal: who runs the shard function.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.results import interleaved, report
from recsys_mtl.ingest.job import ingest
from recsys_mtl.simulate.short_video import WorldConfig, write_world
from recsys_mtl.spec.load import load_pipeline

PIPELINE = Path(__file__).parents[1] / "pipelines" / "short_video.yaml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds; keeps nothing")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = WorldConfig(rows_per_day=20_000 if quick else 100_000)
        write_world(root / "raw", config)
        counter = iter(range(10**6))

        def rate(engine: str, workers: int) -> float:
            home = root / str(next(counter))
            overrides = [f"data.root={root}/raw", f"home={home}"]
            overrides += [f"ingest.engine={engine}", f"ingest.workers={workers}"]
            start = time.perf_counter()
            manifest = ingest(load_pipeline(PIPELINE, overrides), None)
            return float(manifest.meta["rows_in"]) / (time.perf_counter() - start)

        cases = {
            "local, 1 worker": lambda: rate("local", 1),
            "local, 2 workers": lambda: rate("local", 2),
            "ray, 2 workers": lambda: rate("ray", 2),
        }
        found = interleaved(cases, 2 if quick else 3)
    report("ingestion", "rows/s", found, base="local, 1 worker", is_kept=not quick)


if __name__ == "__main__":
    main()
