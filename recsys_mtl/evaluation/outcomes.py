"""Rows of predictions: what happened beside what was predicted."""

import numpy as np
import pyarrow as pa

from recsys_mtl.errors import IntegrityError
from recsys_mtl.registry.predictions import GROUP, ROW_ID, TIME, prob_column, slice_column
from recsys_mtl.spec import layout as encoded_names
from recsys_mtl.spec.layout import Layout, label_column, mask_column


def end_to_end_labels(
    encoded: pa.Table, layout: Layout
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels of the events that a model predicts, and the rows on which they are known.

    A task with a parent predicts parent x child on every row whose parent is
    known (ruling R2): 0 where the parent is 0, unknown where the parent is 1
    and the child is not observed.

    Args:
        encoded: n encoded rows with labels.
        layout: names the tasks and their parents.

    Returns:
        Labels bool[n] and masks bool[n] by task; a label is False where it is masked.
    """
    labels: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    for task in _parents_first(layout):
        own = encoded[label_column(task)].to_numpy() > 0
        known = encoded[mask_column(task)].to_numpy()
        parent = layout.parents[layout.task_names.index(task)]
        if parent >= 0:
            above = layout.task_names[parent]
            own &= labels[above]
            known = masks[above] & (known | ~labels[above])
        labels[task], masks[task] = own & known, known
    return labels, masks


def prediction_rows(encoded: pa.Table, probs: np.ndarray, layout: Layout) -> pa.Table:
    """Rows of a predictions shard, sorted by (time, row_id).

    Args:
        encoded: n encoded rows with labels, and slice columns.
        probs: float64[n, T], end-to-end probabilities in the order of `layout.tasks`.
        layout: of the model.

    Raises:
        IntegrityError: if a prediction is not a probability; nothing may be published then.
    """
    labels, masks = end_to_end_labels(encoded, layout)
    columns = {
        ROW_ID: encoded[encoded_names.ROW_ID],
        GROUP: encoded[encoded_names.GROUP],
        TIME: encoded[encoded_names.TIME],
    }
    slices = [name for name in encoded.column_names if name.startswith(slice_column(""))]
    columns |= {name: encoded[name] for name in slices}
    for position, task in enumerate(layout.task_names):
        bad = np.count_nonzero(~((probs[:, position] >= 0) & (probs[:, position] <= 1)))
        if bad:
            raise IntegrityError(
                f"the model predicts {bad:,} values of {task!r} that are no probabilities; "
                "nothing was published. Check the bundle, or train again."
            )
        columns[prob_column(task)] = pa.array(probs[:, position])
        columns[label_column(task)] = pa.array(labels[task].astype(np.float32))
        columns[mask_column(task)] = pa.array(masks[task])
    return pa.table(columns).sort_by([(TIME, "ascending"), (ROW_ID, "ascending")])


def _parents_first(layout: Layout) -> list[str]:
    def depth(position: int) -> int:
        parent = layout.parents[position]
        return 0 if parent < 0 else 1 + depth(parent)

    order = sorted(range(len(layout.task_names)), key=depth)
    return [layout.task_names[position] for position in order]
