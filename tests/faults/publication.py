"""A two-file publication with a fault at the n-th call of the commit protocol.

Run as a script it is the process that is killed: `publication.py DIRECTORY N SIDE`.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from recsys_mtl.artifacts import commit
from recsys_mtl.artifacts.commit import make_dir, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, publish
from recsys_mtl.artifacts.receipts import Receipt, part_name, write_receipt

PROTOCOL = ("_write", "_fsync_file", "_replace", "_fsync_dir")
FILES = ["part-00000-of-00001.json", "part-00000-of-00001.parquet"]
CALLS = 3 * len(PROTOCOL)
"""Data file, receipt and manifest, four calls each."""


def publish_shard(directory: Path) -> Manifest:
    """What a stage does: a data file, its receipt, the manifest."""
    with stage_lock(directory):
        make_dir(directory)
        rows = pa.table({"x": list(range(5000)), "y": [f"v{i}" for i in range(5000)]})
        data = write_table(directory / part_name(0, 1, ".parquet"), rows)
        receipt = write_receipt(directory, Receipt(0, 1, "log", 5000, 5000, 0, (data,)))
        return publish(directory, [data, receipt], {"stage": "test"})


def inject(
    at: int, side: str, fault: Callable[[], None], replace: Callable[[object, str, object], None]
) -> None:
    """Make the `at`-th protocol call (from 0) fail, `before`, `after` or `half` way through it."""
    calls = iter(range(10**9))

    def wrap(name: str) -> Callable[..., None]:
        real = getattr(commit, name)

        def call(*arguments: object) -> None:
            if next(calls) != at:
                real(*arguments)
                return
            if side == "after":
                real(*arguments)
            elif side == "half" and name == "_write":
                file, content = arguments
                file.write(content[: len(content) // 2])
                file.flush()
            fault()

        return call

    for name in PROTOCOL:
        replace(commit, name, wrap(name))


if __name__ == "__main__":
    target, number, where = sys.argv[1:]
    inject(int(number), where, lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
    publish_shard(Path(target))
