"""Which shards can hold test rows, from the statistics in Parquet footers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.artifacts.plan import ShardTask
from recsys_mtl.ingest.times import time_us
from recsys_mtl.spec.feature_spec import Keys, TimeUnit


def shards_from(tasks: Sequence[ShardTask], keys: Keys, start_us: int) -> list[ShardTask]:
    """Shards that may hold a row at `start_us` or later, renumbered; `first_row` stays.

    A training window is many times its test window, and reading it all only to
    drop it would cost as much as ingestion. Shards without statistics are kept.
    """
    kept = [task for task in tasks if _may_reach(task, keys, start_us)]
    return [replace(task, index=index) for index, task in enumerate(kept)]


def _may_reach(task: ShardTask, keys: Keys, start_us: int) -> bool:
    if keys.time is None or not task.row_groups:
        return True
    newest = [_newest_us(task.path, group, keys.time, keys.time_unit) for group in task.row_groups]
    return any(time is None or time >= start_us for time in newest)


def _newest_us(path: Path, group: int, name: str, unit: TimeUnit) -> int | None:
    with pq.ParquetFile(path) as file:
        row_group, schema = file.metadata.row_group(group), file.schema_arrow
    columns = [row_group.column(i) for i in range(row_group.num_columns)]
    for column in columns:
        if column.path_in_schema == name:
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                return None
            newest = pa.array([statistics.max], schema.field(name).type)
            return int(time_us(newest, name, unit)[0].as_py())
    return None
