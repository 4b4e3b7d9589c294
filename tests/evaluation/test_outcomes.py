import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import IntegrityError
from recsys_mtl.evaluation.outcomes import end_to_end_labels, prediction_rows
from recsys_mtl.spec.feature_spec import BinaryLabel
from recsys_mtl.spec.layout import Layout

BUY = BinaryLabel(name="buy", column="buy", parent="click")
RATE = BinaryLabel(name="rate", column="rate", parent="buy")
CLICK = BinaryLabel(name="click", column="click")
LAYOUT = Layout({}, (), 0, (), (), (RATE, BUY, CLICK))


def encoded(click, buy, rate, **keys):
    """Labels as 0, 1 or None (masked)."""
    n = len(click)
    columns = {"key__row_id": np.arange(n), "key__group": np.arange(n), "key__time": np.arange(n)}
    columns |= keys
    for name, values in {"click": click, "buy": buy, "rate": rate}.items():
        columns[f"label__{name}"] = np.array([v or 0 for v in values], np.float32)
        columns[f"mask__{name}"] = np.array([v is not None for v in values])
    return pa.table(columns)


def test_a_child_is_known_wherever_its_parents_decide():
    """No click; click, purchase unknown; click without purchase; all; nothing; child only."""
    rows = encoded(
        [0, 1, 1, 1, None, 0],
        [None, None, 0, 1, 1, 1],
        [None, None, None, 1, 1, 1],
    )
    labels, masks = end_to_end_labels(rows, LAYOUT)
    assert masks["click"].tolist() == [True, True, True, True, False, True]
    assert masks["buy"].tolist() == [True, False, True, True, False, True]
    assert labels["buy"].tolist() == [False, False, False, True, False, False]
    assert masks["rate"].tolist() == [True, False, True, True, False, True]
    assert labels["rate"].tolist() == [False, False, False, True, False, False]


def test_tasks_without_parent_keep_their_masks():
    layout = Layout({}, (), 0, (), (), (CLICK,))
    labels, masks = end_to_end_labels(encoded([1, None], [0, 0], [0, 0]), layout)
    assert (labels["click"].tolist(), masks["click"].tolist()) == ([True, False], [True, False])


def test_rows_are_sorted_by_time_then_row_id_with_everything_moved_along():
    rows = encoded(
        [1, 0, 0], [1, 0, 0], [0, 0, 0], key__time=np.array([5, 5, 1]), key__row_id=["b", "a", "c"]
    )
    probs = np.array([[0.1, 0.2, 0.9], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])
    rows = rows.append_column("slice__tab", pa.array(["3", "(missing)", "4"]))
    table = prediction_rows(rows, probs, LAYOUT)
    assert table["row_id"].to_pylist() == ["c", "a", "b"]
    assert table["slice__tab"].to_pylist() == ["4", "(missing)", "3"]
    assert table["p__rate"].to_pylist() == [0.6, 0.3, 0.1]
    assert table["p__click"].to_pylist() == [0.8, 0.5, 0.9]
    assert table["label__buy"].to_pylist() == [0, 0, 1]
    assert table["p__buy"].type == pa.float64()
    assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.01])
def test_what_is_no_probability_is_refused(value):
    probs = np.full((1, 3), 0.5)
    probs[0, 1] = value
    with pytest.raises(IntegrityError, match="1 values of 'buy'"):
        prediction_rows(encoded([1], [1], [1]), probs, LAYOUT)
