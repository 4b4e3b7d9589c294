import math

import torch

from recsys_mtl.embeddings.initial import table_init
from recsys_mtl.embeddings.state import plain_state
from recsys_mtl.embeddings.tables import Embeddings
from tests.batches.encoded import make_layout


def fill(rows: int, name: str = "video", seed: int = 1) -> torch.Tensor:
    return table_init(name, seed)(torch.full((rows, 8), torch.nan))


def test_scale_is_a_twentieth_or_less_in_large_tables() -> None:
    for rows, scale in ((10, 0.05), (400, 0.05), (10_000, 0.01)):
        weight = fill(rows)
        assert 0.9 * scale < float(weight.abs().max()) <= scale
        # The variance of a uniform variable in +-s is s^2 / 3; seven standard errors.
        assert math.isclose(float(weight[1:].var()), scale**2 / 3, rel_tol=6 / math.sqrt(8 * rows))


def test_the_row_of_missing_values_starts_at_zero() -> None:
    assert fill(5)[0].tolist() == [0.0] * 8


def test_weights_depend_on_name_and_seed() -> None:
    assert torch.equal(fill(50), fill(50))
    assert not torch.equal(fill(50), fill(50, name="user"))
    assert not torch.equal(fill(50), fill(50, seed=2))


def test_other_tables_do_not_change_a_table() -> None:
    layout = make_layout()
    fewer = type(layout)(
        tables={name: layout.tables[name] for name in ("video", "genre")},
        bags=layout.bags[4:],
        num_plain_bags=0,
        dense=(),
        sequences=layout.sequences,
        tasks=layout.tasks,
    )
    alone = plain_state(Embeddings(fewer, seed=4))["video"]
    assert torch.equal(alone, plain_state(Embeddings(layout, seed=4))["video"])
