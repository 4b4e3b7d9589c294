"""The predictions artifact, the only thing that evaluation and gate share."""

import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.artifacts.manifest import Manifest

MISSING = "(missing)"
ROW_ID, GROUP, TIME = "row_id", "group", "time"
SURVIVAL_ROWS = "predictions.parquet"
"""Predictions of a survival label, one file."""


def prob_column(task: str) -> str:
    """float64 column of a task's predicted probability."""
    return f"p__{task}"


def slice_column(feature: str) -> str:
    """String column of a slicing feature's raw value; `MISSING` where there is none."""
    return f"slice__{feature}"


def prediction_files(evaluation: Manifest) -> list[str]:
    """Names of the shards of predictions, in row order."""
    names = (entry.path for entry in evaluation.files)
    return sorted(n for n in names if n.startswith("part-") and n.endswith(".parquet"))


def read_predictions(evaluation: Manifest, columns: list[str] | None = None) -> pa.Table:
    """All predicted rows of an evaluation.

    Raises:
        IntegrityError: if a shard is damaged or lacks a column.
    """
    shards = [read_table(evaluation.path(n), columns) for n in prediction_files(evaluation)]
    return pa.concat_tables(shards)
