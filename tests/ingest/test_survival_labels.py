"""Survival labels as numbers, and what is refused."""

import pyarrow as pa
import pytest

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.survival_labels import encode_entry, encode_survival
from recsys_mtl.spec.feature_spec import SurvivalLabel

LABEL = SurvivalLabel(
    name="stop",
    entry="entry",
    exit="exit",
    event="stopped",
    cause="cause",
    causes=("cut_out", "wear_out"),
    weight="weight",
    horizons=(3, 7),
)


def rows(**change):
    columns = {
        "entry": pa.array([1, 3, 10], pa.int32()),
        "exit": pa.array([2, 3, 40], pa.int32()),
        "stopped": pa.array([1, 0, 1], pa.int8()),
        "cause": pa.array(["cut_out", None, "wear_out"]),
        "weight": pa.array([1.0, 0.0, 2.5]),
    }
    return pa.table(columns | {name: pa.array(values) for name, values in change.items()})


def test_causes_are_numbered_from_one_and_censored_rows_are_zero():
    encoded = encode_survival(rows(), LABEL)
    assert {name: values.to_pylist() for name, values in encoded.items()} == {
        "survival__stop__entry": [1, 3, 10],
        "survival__stop__exit": [2, 3, 40],
        "survival__stop__event": [1, 0, 2],
        "survival__stop__weight": [1.0, 0.0, 2.5],
    }
    assert [str(values.type) for values in encoded.values()] == ["int32", "int32", "int8", "float"]


def test_without_causes_or_weights_there_is_one_of_each():
    label = LABEL.model_copy(update={"cause": None, "causes": (), "weight": None})
    encoded = encode_survival(rows(), label)
    assert encoded["survival__stop__event"].to_pylist() == [1, 0, 1]
    assert encoded["survival__stop__weight"].to_pylist() == [1, 1, 1]
    assert label.num_causes == 1
    assert LABEL.num_causes == 2


def test_rows_to_score_need_their_age_alone():
    encoded = encode_entry(rows().select(["entry"]), LABEL)
    assert encoded["survival__stop__entry"].to_pylist() == [1, 3, 10]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"exit": [2, 2, 40]}, "column 'exit': 1 rows end before they are at risk .* row 1"),
        ({"entry": [1, 0, 10]}, "column 'entry': 1 rows hold no day of age .first 0 at row 1"),
        ({"entry": [1, 3.5, 10]}, "column 'entry': 1 rows hold no day of age .first 3.5 at row 1"),
        ({"entry": [1, None, 10]}, "column 'entry': 1 rows hold no day of age"),
        ({"stopped": [1, 2, 1]}, "column 'stopped': 1 rows hold no event .first 2 at row 1"),
        ({"cause": ["cut_out", None, "tired"]}, "column 'cause': 1 rows .* 'tired' at row 2"),
        ({"cause": [None, None, "wear_out"]}, "column 'cause': 1 rows .* None at row 0"),
        ({"weight": [1.0, -0.5, 1.0]}, "column 'weight': 1 rows hold no weight .first -0.5 at row"),
        ({"weight": [1.0, None, 1.0]}, "column 'weight': 1 rows hold no weight"),
    ],
)
def test_what_cannot_be_is_refused_at_its_row(change, text):
    with pytest.raises(DataError, match=text) as caught:
        encode_survival(rows(**change), LABEL)
    assert caught.value.problems[0].code == "D060"


def test_a_cause_of_a_censored_row_does_not_matter():
    encoded = encode_survival(rows(cause=["cut_out", "tired", "wear_out"]), LABEL)
    assert encoded["survival__stop__event"].to_pylist() == [1, 0, 2]
