from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.errors import ConfigError, DataError
from recsys_mtl.evaluation.oracle import against_oracle, read_truth, truth_files
from recsys_mtl.metrics.oracle import expected_auc
from recsys_mtl.spec.pipeline import FileSet

RNG = np.random.default_rng(0)
TRUE = RNG.uniform(0.05, 0.6, 300)
SCORES = np.clip(TRUE + RNG.normal(0, 0.1, 300), 0.01, 0.99)
TRUTH = pa.table({"row_id": np.arange(300), "p_click": TRUE})


def predictions(scores=SCORES, mask=None):
    mask = np.ones(300, bool) if mask is None else mask
    return pa.table({"row_id": np.arange(300), "p__click": scores, "mask__click": mask})


def test_numbers_are_those_of_the_rows_that_count():
    mask = RNG.random(300) < 0.5
    found = against_oracle(predictions(mask=mask), TRUTH, ["click"])["click"]
    assert found["expected_auc"] == expected_auc(SCORES[mask], TRUE[mask])
    assert found["calibration"] == pytest.approx(SCORES[mask].sum() / TRUE[mask].sum())
    assert found["regret"] == found["oracle_auc"] - found["expected_auc"] > 0


def test_truth_is_joined_by_row_id():
    shuffled = TRUTH.take(RNG.permutation(300))
    straight = against_oracle(predictions(), TRUTH, ["click"])
    assert against_oracle(predictions(), shuffled, ["click"]) == straight
    assert against_oracle(predictions(TRUE), shuffled, ["click"])["click"]["regret"] == 0


def test_undefined_numbers_are_none():
    nothing = against_oracle(predictions(mask=np.zeros(300, bool)), TRUTH, ["click"])
    assert set(nothing["click"].values()) == {None}


def test_what_is_missing_is_named():
    with pytest.raises(DataError, match="10 test rows are missing"):
        against_oracle(predictions(), TRUTH.slice(10), ["click"])
    with pytest.raises(DataError, match="column 'p_like' is missing"):
        against_oracle(predictions(), TRUTH, ["click", "like"])


def pipeline(row_id="id", files=None):
    source = SimpleNamespace(keys=SimpleNamespace(row_id=row_id))
    return SimpleNamespace(
        spec=SimpleNamespace(sources={"feed": source}),
        pipeline=SimpleNamespace(
            data=SimpleNamespace(source="feed"), evaluation=SimpleNamespace(oracle=files)
        ),
    )


def test_truth_has_canonical_ids(tmp_path):
    path = tmp_path / "truth.parquet"
    pq.write_table(pa.table({"id": pa.array([5, 7], pa.int16()), "p_click": [0.1, 0.2]}), path)
    truth = read_truth(pipeline(files=FileSet(path="truth.parquet")), [path])
    assert truth["row_id"].type == pa.int64()
    assert truth.to_pydict() == {"row_id": [5, 7], "p_click": [0.1, 0.2]}


def test_no_oracle_no_files_and_assigned_ids_are_refused():
    assert truth_files(pipeline(), None) == ()
    with pytest.raises(ConfigError, match=r"evaluation.oracle: needs a column"):
        truth_files(pipeline("assign", FileSet(path="truth.parquet")), None)
