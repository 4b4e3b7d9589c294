"""In simulated worlds: how far a model is from the best that any model can reach."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.assemble import read_rows
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.metrics.oracle import expected_auc
from recsys_mtl.registry.predictions import ROW_ID, prob_column
from recsys_mtl.spec.feature_spec import ASSIGN
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import FileSet


def read_truth(loaded: Loaded, interval_end: str | None, files: FileSet) -> pa.Table:
    """True probabilities of a window: `row_id` and `p_<task>`.

    Raises:
        DataError: if files are missing, or rows are numbered at ingestion and so have no id.
    """
    column = loaded.spec.sources[loaded.pipeline.data.source].keys.row_id
    if column == ASSIGN:
        fix = "Give the rows an id column, or remove evaluation.oracle."
        raise DataError(Problem("evaluation.oracle", "needs keys.row_id", fix))
    found, _ = resolve_files(loaded, interval_end, files)
    truth = pa.concat_tables(read_rows(path, found.row_format) for path in found.rows)
    return truth.rename_columns({column: ROW_ID})


def against_oracle(
    predictions: pa.Table, truth: pa.Table, tasks: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Expected AUC of the model and of the oracle, and mean predicted over mean true rate.

    Expectations over labels drawn from the true probabilities, so free of label noise.

    Args:
        predictions: n rows as `registry.predictions` lays them out.
        truth: `row_id` and `p_<task>` of at least these rows.
        tasks: tasks to compare.

    Raises:
        DataError: if a predicted row has no truth.
    """
    match = pc.index_in(predictions[ROW_ID], value_set=truth[ROW_ID].combine_chunks())
    if match.null_count:
        message = f"{match.null_count:,} predicted rows have no true probability"
        raise DataError(Problem("evaluation.oracle", message, "Simulate the window again."))
    result = {}
    for task in tasks:
        true = truth[f"p_{task}"].take(match).to_numpy()
        scores = predictions[prob_column(task)].to_numpy()
        best, found = expected_auc(true, true), expected_auc(scores, true)
        result[task] = {
            "oracle_auc": best,
            "expected_auc": found,
            "regret": best - found,
            "calibration": float(np.mean(scores) / np.mean(true)),
        }
    return result
