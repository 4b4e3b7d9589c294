from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch

from recsys_mtl.evaluation.survival_evidence import exposed, holdout_facts, with_evidence

BUNDLE = SimpleNamespace(
    sha="bundle",
    layout=SimpleNamespace(survival=SimpleNamespace(name="stop", num_causes=2)),
    model=SimpleNamespace(dense_part=SimpleNamespace(edges=torch.tensor([1, 3, 6]))),
    lineage={"input_fp": "inputs"},
    sources=("clicks", "ads"),
    spec=SimpleNamespace(sources={"ads": SimpleNamespace(keys=SimpleNamespace(group="campaign"))}),
)


def encoded(entry, exit_, event):
    columns = {"entry": np.int32(entry), "exit": np.int32(exit_), "event": np.int8(event)}
    return pa.table({f"survival__stop__{name}": values for name, values in columns.items()})


TRAIN = encoded([1, 1, 3], [2, 4, 9], [1, 0, 0])
"""Interval 0: 4 days, a stop by cause 1; interval 1: 2 + 3 days and none."""
ROWS = encoded([1, 2, 7], [4, 2, 8], [2, 1, 0])
"""Stopped on day 4 by cause 2; on day 2 by cause 1; beyond the grid."""


def judged(z):
    table = pa.table({"row_id": ["a", "b", "c"], "key__time": [7, 5, 6]})
    return with_evidence(table, z, exposed(BUNDLE, ROWS), exposed(BUNDLE, TRAIN))


def test_days_and_stops_are_those_that_the_grid_covers():
    table = judged(torch.zeros(3, 2, 2))
    assert table["at_risk"].to_pylist() == [4, 1, 0]
    assert table["stopped"].to_pylist() == [True, True, False]


def test_the_marginal_likelihood_is_that_of_hazards_of_training_rows():
    """Half a stop is added to each cause, and one day to those lived through: 1.5, .5 and 4 of 6;
    .5, .5 and 6 of 7.
    """
    first = -2 * np.log(4 / 6) - np.log(6 / 7) - np.log(0.5 / 7)
    found = judged(torch.zeros(3, 2, 2))["marginal_nll"].to_numpy()
    np.testing.assert_allclose(found, [first, -np.log(1.5 / 6), 0], atol=1e-12)


def test_expected_stops_are_days_times_hazards_of_all_causes():
    """With logits 0 each cause has a third of every day; with log 2 and log 1, 2 and 1 of four."""
    np.testing.assert_allclose(
        judged(torch.zeros(3, 2, 2))["expected"].to_numpy(), [4 * 2 / 3, 2 / 3, 0]
    )
    z = torch.tensor([2.0, 1.0]).log()[None, :, None].expand(3, 2, 2)
    np.testing.assert_allclose(judged(z)["expected"].to_numpy(), [3, 0.75, 0], rtol=1e-6)


def test_facts_name_bundle_rows_and_time():
    facts = holdout_facts(BUNDLE, SimpleNamespace(sha="rows"), judged(torch.zeros(3, 2, 2)))
    assert facts == {
        "tasks": ["stop"],
        "bundle_sha": "bundle",
        "input_fp": "inputs",
        "holdout_fp": "rows",
        "has_group": True,
        "split_policy": "time",
        "min_time_us": 5,
        "rows": 3,
    }
