import pytest
import torch

from recsys_mtl.embeddings.shard import shard
from recsys_mtl.embeddings.state import load_plain_state, plain_state, unwrapped
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.errors import IntegrityError
from recsys_mtl.spec.pipeline import SparseOptim
from tests.batches.encoded import make_batch, make_layout

CPU, META = torch.device("cpu"), torch.device("meta")


def sharded(seed: int, device: torch.device = META):
    return shard(Embeddings(make_layout(), seed, device), SparseOptim(), CPU)[0]


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b) == ["user", "genre", "video", "hour", "topic"]
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_state_moves_between_sharded_and_unsharded_modules() -> None:
    weights = plain_state(Embeddings(make_layout(), seed=7))
    for module in (sharded(1), Embeddings(make_layout(), 1), Embeddings(make_layout(), 1, META)):
        load_plain_state(module, weights)
        assert_equal(plain_state(module), weights)


def test_loaded_weights_are_the_ones_looked_up() -> None:
    weights = plain_state(Embeddings(make_layout(), seed=7))
    target, batch = sharded(1), make_batch(5)
    load_plain_state(target, weights)
    expected = Embeddings(make_layout(), seed=7)(batch)
    for name, bag in target(batch).bags.items():
        assert torch.equal(bag, expected.bags[name])


def test_state_is_a_copy() -> None:
    embeddings = Embeddings(make_layout())
    plain_state(embeddings)["user"].zero_()
    assert plain_state(embeddings)["user"].abs().max() > 0


def test_wrong_weights_are_refused_by_table_and_nothing_changes() -> None:
    target = sharded(1)
    before = plain_state(target)
    wrong = {**plain_state(Embeddings(make_layout(), 2)), "video": torch.zeros(7, 4)}
    wrong["extra"] = wrong.pop("user")
    with pytest.raises(IntegrityError) as refused:
        load_plain_state(target, wrong)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["table extra", "table user", "table video"]
    assert "(7, 4), the spec says (31, 4)" in lines[2]
    assert_equal(plain_state(target), before)


def test_unwrapped_is_the_module_that_was_built() -> None:
    embeddings = Embeddings(make_layout(), 1, META)
    dmp, _ = shard(embeddings, SparseOptim(), CPU)
    assert unwrapped(dmp) is unwrapped(embeddings) is embeddings
