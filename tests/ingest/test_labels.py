import pyarrow as pa
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.labels import encode_labels
from recsys_mtl.spec.feature_spec import BinaryLabel

HOUR = 3_600_000_000


def label(name: str, **more) -> BinaryLabel:
    return BinaryLabel.model_validate({"name": name, "column": name} | more)


def encoded(tasks, rows: dict, as_of_us=None) -> dict:
    found = encode_labels(pa.table(rows), tuple(tasks), as_of_us)
    return {name: (y.tolist(), mask.tolist()) for name, (y, mask) in found.items()}


def test_masks_pass_down_a_chain_declared_in_any_order():
    """c <- b <- a: where a is unknown so are b and c; b's null hides c, not a."""
    tasks = [label("c", parent="b"), label("a"), label("b", parent="a")]
    found = encoded(tasks, {"a": [1, None, 1, 0], "b": [1, 1, None, 0], "c": [1, 0, 1, 0]})
    assert found["a"] == ([1, 0, 1, 0], [True, False, True, True])
    assert found["b"] == ([1, 0, 0, 0], [True, False, False, True])
    assert found["c"] == ([1, 0, 0, 0], [True, False, False, True])


def test_a_label_matures_at_the_snapshot_to_the_microsecond():
    rows = {"a": [1, 1, 1], "key__time": [0, HOUR, HOUR + 1]}
    assert encoded([label("a", maturity="1h")], rows, 2 * HOUR)["a"][1] == [True, True, False]
    assert encoded([label("a")], rows)["a"][1] == [True, True, True]


def test_integers_can_mean_positive():
    found = encoded([label("a", positive=[3, 5])], {"a": [3.0, 4.0, None, 5.0]})
    assert found["a"] == ([1, 0, 0, 1], [True, True, False, True])
    assert encoded([label("a", positive=[3])], {"a": pa.nulls(2)})["a"] == ([0, 0], [False, False])


def test_fractions_and_infinities_are_no_labels():
    with pytest.raises(DataError, match=r"2 rows hold no label \(first 0.5 at row 1\)"):
        encoded([label("a")], {"a": [1.0, 0.5, float("inf"), None]})


def test_no_rows_have_no_labels():
    assert encoded([label("a")], {"a": pa.array([], pa.int8())})["a"] == ([], [])
