"""In simulated worlds: how far a model is from the best that any model can reach."""

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import ConfigError, DataError, Problem
from recsys_mtl.ingest.assemble import read_rows
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.files import resolve_files
from recsys_mtl.metrics.oracle import expected_auc
from recsys_mtl.registry.predictions import ROW_ID, prob_column
from recsys_mtl.spec.feature_spec import ASSIGN
from recsys_mtl.spec.layout import mask_column
from recsys_mtl.spec.load import Loaded


def truth_files(loaded: Loaded, interval_end: str | None) -> tuple[Path, ...]:
    """Files of a window's true probabilities; none where `evaluation.oracle` is absent.

    Raises:
        ConfigError: if rows are numbered at ingestion and so cannot be joined with their truth.
        DataError: if files are missing.
    """
    files = loaded.pipeline.evaluation.oracle
    if files is None:
        return ()
    if loaded.spec.sources[loaded.pipeline.data.source].keys.row_id == ASSIGN:
        fix = "Give the rows an id column, or remove evaluation.oracle."
        raise ConfigError(Problem("evaluation.oracle", "needs a column as keys.row_id", fix))
    return resolve_files(loaded, interval_end, files)[0].rows


def read_truth(loaded: Loaded, paths: Sequence[Path]) -> pa.Table:
    """True probabilities: `row_id` in canonical form and `p_<task>`.

    Raises:
        DataError: if a file is damaged or lacks the id column.
    """
    files = loaded.pipeline.evaluation.oracle
    assert files is not None
    row_id = loaded.spec.sources[loaded.pipeline.data.source].keys.row_id
    table = pa.concat_tables(read_rows(path, files.format) for path in paths)
    ids = canonical_ids(column_of(table, row_id), row_id)
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    return table.drop_columns([row_id]).append_column(ROW_ID, ids)


def against_oracle(
    predictions: pa.Table, truth: pa.Table, tasks: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Expected AUC of the model and of the oracle, and mean predicted over mean true rate.

    Expectations over labels drawn from the true probabilities, so free of label
    noise, on the rows on which the task's label counts.

    Args:
        predictions: n rows as `registry.predictions` lays them out.
        truth: `row_id` and `p_<task>` of at least these rows.
        tasks: tasks to compare.

    Returns:
        By task `oracle_auc`, `expected_auc`, `regret` (their difference) and `calibration`;
        None where undefined.

    Raises:
        DataError: if a row or a task has no truth.
    """
    match = pc.index_in(predictions[ROW_ID], value_set=truth[ROW_ID].combine_chunks())
    absent = [f"p_{task}" for task in tasks if f"p_{task}" not in truth.column_names]
    if match.null_count or absent:
        found = f"column {absent[0]!r} is" if absent else f"{match.null_count:,} test rows are"
        raise DataError(
            Problem("evaluation.oracle", f"{found} missing", "Simulate the window again.", "D001")
        )
    truth = truth.take(match)
    return {task: _task_against_oracle(predictions, truth, task) for task in tasks}


def _task_against_oracle(
    predictions: pa.Table, truth: pa.Table, task: str
) -> dict[str, float | None]:
    rows = predictions[mask_column(task)].to_numpy()
    true = truth[f"p_{task}"].to_numpy()[rows]
    scores = predictions[prob_column(task)].to_numpy()[rows]
    best, model = expected_auc(true, true), expected_auc(scores, true)
    values = {
        "oracle_auc": best,
        "expected_auc": model,
        "regret": best - model,
        "calibration": float(scores.sum() / true.sum()) if true.any() else math.nan,
    }
    return {name: v if math.isfinite(v) else None for name, v in values.items()}
